"""The hub: a folder with one source and any number of tasks, all answered by one pass of the source."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from snow.data import Input, to_batch
from snow.errors import MismatchError, SnowError
from snow.hub.artifact import Artifact
from snow.hub.card import hub_card
from snow.hub.folder import prepare_folder
from snow.hub.sharing import Shared, local_copy, resolve_snapshot
from snow.hub.task_files import copy_files, read_config
from snow.hub.task_record import TOLERANCE
from snow.hub.tasks import LoadedTasks
from snow.hub.verification import ReferencePictures, Verification, verify_tasks, write_record
from snow.hub.versions import keeping_version, remove_versions
from snow.inference import (
    SOURCE_HEAD,
    Engine,
    Failure,
    Prediction,
    Predictor,
    open_engine,
    rejecting,
    require_share,
    tasks_per_picture,
)
from snow.kinds import ClassKind, LabelKind
from snow.source import Source
from snow.source.description import read_source
from snow.source.source_file import open_source
from snow.store import check_name, read_consistently, read_json

PREPARED = "prepared"
"""Folder in a hub for what engines made of its source. It may be removed at any time."""


class Hub(Shared):
    """A folder with `source.json` and `tasks/NAME/`. Adding a task changes no other task by a single bit.

    Any number of processes may add, replace and remove tasks; each change is one step (`snow.store`). Within a
    process, only one thread at a time may use a hub. A task that cannot answer (it is damaged, was trained on another
    source, or has a newer format) leaves the others as they are.

    Args:
        engine: name in `snow.inference.ENGINES`, or "auto" for the fastest that starts at once. "eager" runs the
            networks as they were trained; the exact ones among the others equal it up to rounding.

    Raises:
        SnowError: there is no such engine, or it needs a package that is not installed.
    """

    def __init__(self, path: str | Path, source: Source, engine: str = "auto") -> None:
        self.path = Path(path).absolute()  # the process may go to another folder
        self.source = source
        self.predictor = Predictor(open_engine(engine, source, self.path / PREPARED))
        self.tasks = LoadedTasks(self.path, source)

    @classmethod
    def create(cls, path: str | Path, source: Source) -> Hub:
        """Create a hub for `source`, or open the hub at `path` if it has this very source.

        Raises:
            SnowError: `path` is a file, cannot be written, or is a hub of another source.
        """
        prepare_folder(Path(path), source)
        return cls(path, source)

    @classmethod
    def open(cls, path: str | Path, engine: str = "auto", **options: Any) -> Hub:
        """Open the hub at `path` with its source; `options` go to `Source` (`taps`, `without_taps`).

        Raises:
            SnowError: there is no hub, its source has changed, or there is no such engine.
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
        """Open the hub in a folder, or a copy of the one in a repository OWNER/NAME of the Hugging Face hub.

        Args:
            folder: for the copy; by default one beside the cache of the Hugging Face hub.
            options: as for `open`.

        Raises:
            SnowError: there is no hub, the Hugging Face hub cannot be reached, or `folder` exists; and as `open`.
        """
        snapshot = resolve_snapshot(name, revision, token)
        return cls.open(snapshot if snapshot == Path(name) else local_copy(name, snapshot, folder), **options)

    def export(self, folder: Path, repository: str) -> str:
        """Write all tasks that can answer, and return the text of the model card; the log names the other tasks."""
        copy = Hub.create(folder, self.source)
        names = self.tasks.usable()
        for name in names:
            copy._store_task(name, lambda new, name=name: self.tasks.store.read(name, lambda old: copy_files(old, new)))
        folders = {name: copy.folder(name) for name in names}
        tasks = [(name, read_config(task), read_json(task / "metrics.json")) for name, task in folders.items()]
        return hub_card(read_source(folder), tasks, repository)

    @property
    def engine(self) -> Engine:
        """The engine that runs the source and the tasks."""
        return self.predictor.engine

    def folder(self, name: str) -> Path:
        """Return the folder of the task of this name. Raises SnowError: no task can have this name."""
        return self.path / "tasks" / check_name(name)

    def names(self) -> list[str]:
        """List the names of all tasks, sorted, with those that are broken."""
        return self.tasks.store.names()

    def broken(self) -> dict[str, str]:
        """Map the name of each task that cannot answer to one line that says why."""
        return self.tasks.broken()

    def add(self, artifact: Artifact, replace: bool = False) -> Path:
        """Add a task, and return its folder.

        Raises:
            SnowError: it was trained on another source, the name is taken and `replace` is False, or it cannot be
                written.
        """
        if artifact.source["fingerprint"] != self.source.fingerprint:
            raise MismatchError(f"task {artifact.name} was trained on another source than that of hub {self.path}")
        return self._store_task(artifact.name, artifact.write, replace)

    def copy(self, folder: str | Path, name: str | None = None, replace: bool = False) -> Path:
        """Add a task from another folder, such as `tasks/NAME` of another hub, and return its new folder.

        Args:
            name: by default the name that the task was trained under.

        Raises:
            SnowError: there is no task, or it has changed since it was added there; and as `add`.
        """
        folder = Path(folder)
        name = name or read_config(folder)["task"]
        return self._store_task(
            name, lambda new: read_consistently(lambda: folder, lambda there: copy_files(there, new)), replace
        )

    def remove(self, name: str) -> None:
        """Remove a task. Raises SnowError: there is no such task."""
        self.tasks.remove(name)
        remove_versions(self.path, name)

    def task(self, name: str) -> Artifact:
        """Return a task. It is read once and then kept in memory.

        Raises:
            SnowError: there is no task of this name, or it cannot answer.
        """
        return self.tasks.get(name)

    def refresh(self) -> list[str]:
        """Forget the tasks that another process changed, replaced or removed since they were read.

        Returns:
            Their names. Until then a task answers as it did when it was read.
        """
        return self.tasks.refresh()

    def verify(self, tasks: Collection[str] | None = None, tolerance: float = TOLERANCE) -> dict[str, Verification]:
        """Whether each task is what it was when it was added: its files, its tensors, its answers to a few pictures.

        Args:
            tasks: by default all.
            tolerance: how far logits may be off, beside the largest of them.
        """
        return verify_tasks(self.tasks.store, self.names() if tasks is None else tasks, self.source, tolerance)

    def classes(self, name: str) -> tuple[str, ...]:
        """Return the classes of a task; those of the source's own head are numbers, in the order of its logits."""
        return self.labels(name).names

    def labels(self, name: str) -> LabelKind:
        """Return the kind of a task's labels."""
        return ClassKind(self.tasks.head_classes) if name == SOURCE_HEAD else self.task(name).labels

    def logits(self, images: Tensor, tasks: Collection[str] | None = None) -> dict[str, Tensor]:
        """Compute the logits of each task with one pass of the source: (B, 3, S, S) uint8 -> (B, classes) by task.

        Args:
            tasks: by default all that can answer, and the log names each of the others once. `SOURCE_HEAD` stands
                for the source's own head.

        Raises:
            SnowError: a task is unknown or cannot answer, or the pictures do not have the source's size.
        """
        names = self.tasks.usable() if tasks is None else tasks
        methods = {name: None if name == SOURCE_HEAD else self.task(name).method for name in names}
        return self.predictor.logits(images, methods)

    def predict(
        self,
        images: Input | Iterable[Input],
        tasks: Collection[str] | Sequence[Collection[str]] | None = None,
        reject: float = 0.0,
        with_traits: bool = False,
    ) -> list[dict[str, Prediction | Failure]]:
        """Predict with one pass of the source: B pictures -> B dicts of predictions by task.

        A task that is broken or fails gets a `Failure`, and the others answer.

        Args:
            images: one picture or any number of them: paths, content of files as bytes, open binary files, Pillow
                images, NumPy arrays (H, W, 3) and tensors (3, H, W), of uint8 or floating in 0..1. Each is resized and
                cropped as in evaluation, apart from a tensor (B, 3, S, S), which is taken to be prepared already.
            tasks: one list of names for all pictures, or one list for each picture; by default all tasks.
                `SOURCE_HEAD` stands for the source's own head.
            reject: answer as unknown what is less familiar than this share of a task's own pictures: 0.05 rejects about
                5 % of these, and most of what no class of the task explains.
            with_traits: predictions have traits, by which many pictures are compared with those of training.

        Raises:
            SnowError: an image is not a readable picture, a task is unknown, or the number of lists is not that of the
                pictures.
        """
        require_share(reject)
        batch = to_batch(images, self.source.preprocessing)
        rows = tasks_per_picture(self.tasks.all_names() if tasks is None else tasks, len(batch))
        requests = self.tasks.requests({name: None for row in rows for name in row}, required=tasks is not None)
        answers = self.predictor.run(batch, [{name: requests[name] for name in row} for row in rows], with_traits)
        return [{name: rejecting(entry, reject) for name, entry in row.items()} for row in answers]

    def predict_proba(self, images: Input | Iterable[Input], task: str) -> np.ndarray:
        """Compute the class probabilities of one task: B pictures -> (B, C), in the order of `classes(task)`.

        Args:
            images: as for `predict`.
            task: its name; `SOURCE_HEAD` stands for the source's own head.

        Raises:
            SnowError: an image is not a readable picture, or the task is unknown, broken, or gives NaN.
        """
        batch = to_batch(images, self.source.preprocessing)
        if not len(batch):
            return np.empty((0, len(self.classes(task))), np.float32)
        probabilities = self.labels(task).probabilities(self.logits(batch, [task])[task]).cpu()
        if not probabilities.isfinite().all():
            raise SnowError(f"task {task} gives NaN")
        return probabilities.numpy()

    def _store_task(self, name: str, fill: Callable[[Path], object], replace: bool = False) -> Path:
        replaces = replace and self.tasks.store.has(name)
        keeping = keeping_version(self.path, name) if replaces else nullcontext()
        with keeping, self.tasks.store.writing(name, replace) as new:
            fill(new)
            write_record(new, ReferencePictures(self.source))
        self.tasks.forget(name)
        return self.folder(name)
