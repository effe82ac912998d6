"""The hub: a folder with one source and any number of tasks, all answered by one pass of the source."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from snow.artifact import CHOICES, Artifact, check_name, read_json, write_json
from snow.data import decode, eval_transform
from snow.errors import SnowError
from snow.source import Source
from snow.subscribe import Choices

REOPENED = ("embedded", "pretrained")
"""Weights that a name is enough to open again; all others are stored in the hub."""

SOURCE_HEAD = "(source)"
"""Asks for the answer of the source's own head among those of the tasks; no task can have this name."""


@dataclass(frozen=True)
class Answer:
    """One task's answer to one picture: classes with probabilities, most likely first."""

    task: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class Hub:
    """`source.json` and `tasks/NAME/`. Adding a task changes no other one by a single bit.

    A hub is used by one thread at a time.
    """

    def __init__(self, path: str | Path, source: Source) -> None:
        self.path = Path(path)
        self.source = source
        self._loaded: dict[str, Artifact] = {}

    @classmethod
    def create(cls, path: str | Path, source: Source) -> Hub:
        """A new hub for `source`, or the hub that is there if it has this very source.

        Raises:
            SnowError: `path` is a file, cannot be written, or is a hub of another source.
        """
        path = Path(path)
        if (path / "source.json").exists():
            described = read_source(path)
            if described["fingerprint"] != source.fingerprint:
                raise SnowError(
                    f"hub {path} has another source: {described['architecture']} at "
                    f"{described['preprocessing']['image_size']} px, fingerprint {described['fingerprint']}; this one "
                    f"is {source.name} at {source.preprocessing.image_size} px, fingerprint {source.fingerprint}"
                )
            return cls(path, source)
        is_new = not path.exists()
        try:
            (path / "tasks").mkdir(parents=True, exist_ok=True)
            if source.weights not in REOPENED:
                tensors = {name: value.contiguous() for name, value in source.cnn.state_dict().items()}
                save_file(tensors, path / "source.safetensors")
            partial = path / ".source.json"
            write_json(partial, source.description())
            partial.rename(path / "source.json")
        except (OSError, SafetensorError) as error:
            if is_new:
                shutil.rmtree(path, ignore_errors=True)
            raise SnowError(f"hub {path} cannot be made: {getattr(error, 'strerror', None) or error}") from error
        return cls(path, source)

    @classmethod
    def open(cls, path: str | Path, **options: Any) -> Hub:
        """The hub at `path` with its source; `options` go to `Source` (`taps`, `without_taps`).

        Raises:
            SnowError: there is none, or its source is not what it was.
        """
        path = Path(path)
        described = read_source(path)
        weights = path / "source.safetensors"
        size = described["preprocessing"]["image_size"]
        if described["weights"] == "embedded":
            source = Source.embedded(size, **options)
        else:
            stored = weights if weights.exists() else None
            if stored is None and described["weights"] not in REOPENED:
                raise SnowError(f"hub {path} is damaged: {weights} is missing")
            source = Source.open(described["architecture"], stored is None, stored, size, **options)
            source.weights = described["weights"]
        if source.fingerprint != described["fingerprint"]:
            raise SnowError(
                f"the source of hub {path} is not what it was: fingerprint {source.fingerprint}, "
                f"recorded {described['fingerprint']}"
            )
        return cls(path, source)

    def folder(self, name: str) -> Path:
        """Where a task of this name is kept."""
        return self.path / "tasks" / check_name(name)

    def names(self) -> list[str]:
        """Of its tasks, sorted."""
        return task_names(self.path)

    def add(self, artifact: Artifact, replace: bool = False) -> Path:
        """Keeps a task.

        Raises:
            SnowError: it was learned on another source, the name is taken and `replace` is False, or it cannot be
                written.
        """
        if artifact.source["fingerprint"] != self.source.fingerprint:
            raise SnowError(f"task {artifact.name} was learned on another source than that of hub {self.path}")
        folder = self.folder(artifact.name)
        self._loaded.pop(artifact.name, None)
        if not (folder.exists() and replace):
            return artifact.save(folder)
        new = folder.with_name(f".{artifact.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        artifact.save(new)
        self.remove(artifact.name)
        return new.rename(folder)

    def remove(self, name: str) -> None:
        """Raises SnowError: there is no such task."""
        folder = self.folder(name)
        if not folder.exists():
            raise SnowError(self._unknown(name))
        gone = folder.with_name(f".{name}.removed")
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone)
        self._loaded.pop(name, None)

    def task(self, name: str) -> Artifact:
        """A task, read once and kept.

        Raises:
            SnowError: there is none of this name, or it is damaged.
        """
        if name not in self._loaded:
            if not (self.folder(name) / "config.json").exists():
                raise SnowError(self._unknown(name))
            self._loaded[name] = Artifact.load(self.folder(name), self.source)
        return self._loaded[name]

    def classes(self, name: str) -> tuple[str, ...]:
        """Of a task; those of the source's own head are numbers, in the order of the data that it was trained on."""
        return tuple(map(str, range(self.source.num_classes))) if name == SOURCE_HEAD else self.task(name).classes

    @torch.no_grad()
    def logits(self, images: Tensor, tasks: Collection[str] | None = None) -> dict[str, Tensor]:
        """Every task's logits (B, classes) from one pass over `images`, (B, 3, S, S) uint8, where the source is.

        Args:
            tasks: by default all; `SOURCE_HEAD` among them asks for the logits of the source's own head.
        """
        names = self.names() if tasks is None else tasks
        device = next(self.source.buffers()).device
        methods = {name: self.task(name).method.to(device) for name in names if name != SOURCE_HEAD}
        features = self.source(images.to(device), frozenset[str]().union(*(one.taps for one in methods.values())))
        return {name: features.logits if name == SOURCE_HEAD else methods[name](features) for name in names}

    def predict(
        self, images: Sequence[str | Path] | Tensor, tasks: Collection[str] | None = None
    ) -> list[dict[str, Answer]]:
        """For each picture (files, or a (B, 3, S, S) uint8 tensor) the answer of each task, in one source pass.

        Raises:
            SnowError: a file is not a readable picture, or a task is unknown or damaged.
        """
        if not isinstance(images, Tensor):
            prepare = eval_transform(self.source.preprocessing)
            images = torch.stack([prepare(decode(Path(path))) for path in images])
        answers: list[dict[str, Answer]] = [{} for _ in range(len(images))]
        for name, logits in self.logits(images, tasks).items():
            probabilities, order = logits.float().softmax(1).sort(1, descending=True)
            classes = self.classes(name)
            for answer, row, indices in zip(answers, probabilities.tolist(), order.tolist(), strict=True):
                answer[name] = Answer(name, tuple(classes[index] for index in indices), tuple(row))
        return answers

    def _unknown(self, name: str) -> str:
        return _unknown(self.path, name)


def task_names(path: Path) -> list[str]:
    """Of the tasks in the hub at `path`, sorted."""
    folders = [config.parent.name for config in (path / "tasks").glob("*/config.json")]
    return sorted(name for name in folders if not name.startswith("."))


def read_choices(path: Path, name: str) -> Choices:
    """What a task of the hub at `path` took over the time of its training, without opening the source.

    Raises:
        SnowError: there is no such hub or task, or it has no record of a choice.
    """
    read_source(path)
    folder = path / "tasks" / check_name(name)
    if not (folder / "config.json").exists():
        raise SnowError(_unknown(path, name))
    if not (folder / CHOICES).exists():
        raise SnowError(f"task {name} has no {CHOICES}: its method chooses no channels, or it was not trained here")
    return Choices.load(folder / CHOICES)


def _unknown(path: Path, name: str) -> str:
    return f"hub {path} has no task {name!r}: it has {', '.join(task_names(path)) or 'none yet'}"


def read_source(path: Path) -> dict[str, Any]:
    """The description of a hub's source, without opening it.

    Raises:
        SnowError: there is no hub at `path`, or its `source.json` is damaged.
    """
    file = path / "source.json"
    if not file.is_file():
        raise SnowError(f"{path} is not a hub: it has no source.json")
    described = read_json(file)
    needed = {"architecture": str, "weights": str, "fingerprint": str, "preprocessing": dict}
    if not all(isinstance(described.get(key), kind) for key, kind in needed.items()) or not isinstance(
        described["preprocessing"].get("image_size"), int
    ):
        raise SnowError(f"{file} is damaged: it should have {', '.join(needed)}")
    return described
