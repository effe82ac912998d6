"""The hub: a folder with one source and any number of tasks, all answered by one pass of the source."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from snow.data import decode, eval_transform
from snow.errors import SnowError
from snow.hub.artifact import SELECTION_FILE, Artifact, copy_files, read_config
from snow.hub.card import hub_card
from snow.hub.sharing import Shared, kept, located
from snow.hub.task_record import TOLERANCE, Difference, ReferencePictures, Verification, verify_task, write_record
from snow.inference import Request, group_by_task, open_engine
from snow.inference.prediction import SOURCE_HEAD, Answer, wanted
from snow.source import Source
from snow.source.source_file import open_source, read_source, write_source
from snow.store import Stamp, Store, check_name, read_consistently, read_json
from snow.subscribe import SelectionHistory


class Hub(Shared):
    """`source.json` and `tasks/NAME/`. Adding a task changes no other one by a single bit.

    Tasks are added, replaced and removed in one step (`snow.store`), by any number of processes; in one process a hub
    is used by one thread at a time. A task that cannot answer (damaged, of another source, of a newer format) leaves
    the others as they are.

    Args:
        engine: what runs it, a name in `snow.inference.ENGINES`, or "auto" for the fastest that is ready at once.

    Raises:
        SnowError: there is no such engine, or it needs a package that is not installed.
    """

    def __init__(self, path: str | Path, source: Source, engine: str = "eager") -> None:
        self.path = Path(path)
        self.source = source
        self.engine = open_engine(engine, source)
        self._store = store_of(self.path)
        self._loaded: dict[str, Artifact] = {}
        self._stamps: dict[str, Stamp] = {}
        self._broken: dict[str, str] = {}
        self._reported: set[str] = set()

    @classmethod
    def create(cls, path: str | Path, source: Source) -> Hub:
        """A new hub for `source`, or the hub that is there if it has this very source.

        Raises:
            SnowError: `path` is a file, cannot be written, or is a hub of another source.
        """
        path = Path(path)
        if not (path / "source.json").exists():
            is_new = not path.exists()
            try:
                (path / "tasks").mkdir(parents=True, exist_ok=True)
                with store_of(path).locked():
                    if not (path / "source.json").exists():
                        write_source(path, source)
            except (OSError, SafetensorError) as error:
                if is_new and not (path / "source.json").exists():
                    shutil.rmtree(path, ignore_errors=True)
                raise SnowError(f"hub {path} cannot be made: {getattr(error, 'strerror', None) or error}") from error
        described = read_source(path)
        if described["fingerprint"] != source.fingerprint:
            raise SnowError(
                f"hub {path} has another source: {described['architecture']} at "
                f"{described['preprocessing']['image_size']} px, fingerprint {described['fingerprint']}; this one "
                f"is {source.name} at {source.preprocessing.image_size} px, fingerprint {source.fingerprint}"
            )
        return cls(path, source)

    @classmethod
    def open(cls, path: str | Path, engine: str = "eager", **options: Any) -> Hub:
        """The hub at `path` with its source; `options` go to `Source` (`taps`, `without_taps`).

        Raises:
            SnowError: there is none, its source is not what it was, or there is no such engine.
        """
        return cls(path, open_source(Path(path), **options), engine)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        folder: str | Path | None = None,
        *,
        revision: str | None = None,
        token: str | None = None,
        **options: Any,
    ) -> Hub:
        """The hub in a folder, or a copy of the one in a repository OWNER/NAME of the Hugging Face hub.

        Args:
            folder: for the copy; by default one beside the cache of the Hugging Face hub.
            options: as for `open`.

        Raises:
            SnowError: there is none, the Hugging Face hub cannot be reached, `folder` is there already; and as `open`.
        """
        found = located(name, revision, token)
        return cls.open(found if found == Path(name) else kept(name, found, folder), **options)

    def export(self, folder: Path, repository: str) -> str:
        """Writes all tasks that can answer; the log names the others."""
        other, names, read = Hub.create(folder, self.source), self._sound(), self._store.read
        for name in names:
            other._keep(name, lambda new, name=name: read(name, lambda there: copy_files(there, new)), False)
        folders = {name: other.folder(name) for name in names}
        tasks = [(name, read_config(one), read_json(one / "metrics.json")) for name, one in folders.items()]
        return hub_card(read_source(folder), tasks, repository)

    def folder(self, name: str) -> Path:
        """Where a task of this name is kept."""
        return self.path / "tasks" / check_name(name)

    def names(self) -> list[str]:
        """Of its tasks, sorted, `broken` ones too."""
        return self._store.names()

    def broken(self) -> dict[str, str]:
        """The tasks that cannot answer, and why."""
        names = self.names()
        for name in names:
            if name not in self._loaded and name not in self._broken:
                try:
                    self.task(name)
                except SnowError as error:
                    self._broken[name] = str(error)
        return {name: self._broken[name] for name in names if name in self._broken}

    def add(self, artifact: Artifact, replace: bool = False) -> Path:
        """Keeps a task.

        Raises:
            SnowError: it was learned on another source, the name is taken and `replace` is False, or it cannot be
                written.
        """
        if artifact.source["fingerprint"] != self.source.fingerprint:
            raise SnowError(f"task {artifact.name} was learned on another source than that of hub {self.path}")
        return self._keep(artifact.name, artifact.write, replace)

    def copy(self, folder: str | Path, name: str | None = None, replace: bool = False) -> Path:
        """Keeps a task from another folder, such as `tasks/NAME` of another hub.

        Args:
            name: by default what the task was called when it was learned.

        Raises:
            SnowError: there is no task, it is not what it was when it was added there; and as `add`.
        """
        folder = Path(folder)
        name = name or read_config(folder)["task"]
        return self._keep(
            name, lambda new: read_consistently(lambda: folder, lambda there: copy_files(there, new)), replace
        )

    def remove(self, name: str) -> None:
        """Raises SnowError: there is no such task."""
        if not self._store.remove(name):
            raise SnowError(self._unknown(name))
        self._forget(name)

    def task(self, name: str) -> Artifact:
        """A task, read once and kept.

        Raises:
            SnowError: there is none of this name, or it cannot answer.
        """
        if name not in self._loaded:
            if not self._store.has(name):
                raise SnowError(self._unknown(name))
            self._stamps[name] = self._store.stamp(name)
            artifact = self._store.read(name, lambda folder: Artifact.load(folder, self.source))
            self._forget(name)
            self._loaded[name] = dataclasses.replace(artifact, name=name)
        return self._loaded[name]

    def refresh(self) -> list[str]:
        """Forgets each task that was changed, replaced or removed by another process since it was read.

        Returns:
            Their names. Until then a task answers as it did when it was read.
        """
        changed = sorted(name for name, stamp in self._stamps.items() if self._store.stamp(name) != stamp)
        for name in changed:
            self._forget(name)
            del self._stamps[name]
        return changed

    def verify(self, tasks: Collection[str] | None = None, tolerance: float = TOLERANCE) -> dict[str, Verification]:
        """Whether each task is what it was when it was added: its files, its tensors, its answers to a few pictures.

        Args:
            tasks: by default all.
            tolerance: how far logits may be off, beside the largest of them.
        """
        probe, verdicts = ReferencePictures(self.source), {}
        for name in self.names() if tasks is None else tasks:
            try:
                verdicts[name] = self._store.read(name, lambda folder: verify_task(folder, probe, tolerance))
            except SnowError as error:
                verdicts[name] = Verification((Difference(str(error)),), recorded=False)
        return verdicts

    def classes(self, name: str) -> tuple[str, ...]:
        """Of a task; those of the source's own head are numbers, in the order of the data that it was trained on."""
        return tuple(map(str, range(self.source.num_classes))) if name == SOURCE_HEAD else self.task(name).classes

    def logits(self, images: Tensor, tasks: Collection[str] | None = None) -> dict[str, Tensor]:
        """Every task's logits (B, classes) from one pass over `images`, (B, 3, S, S) uint8, where the source is.

        Args:
            tasks: by default all that can answer, and the log names the others, once; `SOURCE_HEAD` among them asks
                for the logits of the source's own head.

        Raises:
            SnowError: a task is asked for that is unknown or cannot answer.
        """
        return self._logits(images, {name: (0, len(images)) for name in (self._sound() if tasks is None else tasks)})

    def predict(
        self, images: Sequence[str | Path] | Tensor, tasks: Collection[str] | Sequence[Collection[str]] | None = None
    ) -> list[dict[str, Answer]]:
        """For each picture (files, or a (B, 3, S, S) uint8 tensor) the answer of each task, in one source pass.

        Args:
            tasks: names as for `logits`; or for each picture its own, in a list as long as that of the pictures.

        Raises:
            SnowError: a file is not a readable picture, there are more or fewer lists of names than pictures; and as
                `logits`.
        """
        if not isinstance(images, Tensor):
            prepare = eval_transform(self.source.preprocessing)
            images = torch.stack([prepare(decode(Path(path))) for path in images])
        asked = wanted(self._sound() if tasks is None else tasks, len(images))
        order, runs = group_by_task(asked)
        answers: list[dict[str, Answer]] = [{} for _ in order]
        for name, logits in self._logits(images[order], runs).items():
            found = Answer.of(name, self.classes(name), logits)
            for picture, answer in zip(order[slice(*runs[name])], found, strict=True):
                answers[picture][name] = answer
        return [{name: answer[name] for name in names} for answer, names in zip(answers, asked, strict=True)]

    def _logits(self, images: Tensor, runs: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
        """By task the logits (stop - start, classes) for its run of the pictures."""
        device = next(self.source.buffers()).device
        asked = {
            name: Request(None if name == SOURCE_HEAD else self.task(name).method.to(device), *run)
            for name, run in runs.items()
        }
        return self.engine.logits(images.to(device), asked)

    def _keep(self, name: str, fill: Callable[[Path], object], replace: bool) -> Path:
        with self._store.writing(name, replace) as new:
            fill(new)
            write_record(new, ReferencePictures(self.source))
        self._forget(name)
        return self.folder(name)

    def _forget(self, name: str) -> None:
        self._loaded.pop(name, None)
        self._broken.pop(name, None)
        self._reported.discard(name)

    def _sound(self) -> list[str]:
        broken = self.broken()
        for name in broken.keys() - self._reported:
            logging.getLogger("snow").warning("task %s of hub %s is left out: %s", name, self.path, broken[name])
        self._reported.update(broken)
        return [name for name in self.names() if name in self._loaded]

    def _unknown(self, name: str) -> str:
        return _unknown(self.path, name)


def read_selection_history(path: Path, name: str) -> SelectionHistory:
    """What a task of the hub at `path` took over the time of its training, without opening the source.

    Raises:
        SnowError: there is no such hub or task, or it has no record of a choice.
    """
    read_source(path)
    if not store_of(path).has(name):
        raise SnowError(_unknown(path, name))

    def read(folder: Path) -> SelectionHistory:
        if not (folder / SELECTION_FILE).exists():
            raise SnowError(
                f"task {name} has no {SELECTION_FILE}: its method chooses no channels, or it was not trained here"
            )
        return SelectionHistory.load(folder / SELECTION_FILE)

    return store_of(path).read(name, read)


def _unknown(path: Path, name: str) -> str:
    return f"hub {path} has no task {name!r}: it has {', '.join(store_of(path).names()) or 'none yet'}"


def store_of(path: Path) -> Store:
    """The tasks of the hub at `path`, as folders."""
    return Store(path / "tasks", path / ".lock")
