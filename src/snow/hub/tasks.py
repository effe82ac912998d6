"""The tasks of a hub in memory: each is read once, and forgotten when its folder changes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from snow.errors import NotFoundError, SnowError
from snow.hub.artifact import Artifact
from snow.hub.blueprint import Blueprints
from snow.hub.listing import store_of, unknown_task
from snow.inference import SOURCE_HEAD, Failure, Request
from snow.kinds import ClassKind
from snow.process.memory import without_collection
from snow.source import Source
from snow.store import Stamp


class LoadedTasks:
    """Reads tasks from the folder of a hub and keeps them.

    Args:
        path: the hub's folder.
        source: the source that the tasks must have been trained on.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path, self.source, self.store = path, source, store_of(path)
        self._blueprints = Blueprints(source)
        self._artifacts: dict[str, Artifact] = {}
        self._broken: dict[str, str] = {}
        self._stamps: dict[str, Stamp] = {}
        self._warned: set[str] = set()

    def require(self, *names: str) -> None:
        """Raises SnowError: there is no task of one of these names, broken or not."""
        unread = [name for name in names if name not in self._artifacts and name not in self._broken]
        there = set(self.store.names()) if unread else ()
        for name in unread:
            if name not in there:
                raise NotFoundError(unknown_task(self.path, name))

    def get(self, name: str) -> Artifact:
        """Return a task, from memory if it was read before.

        Raises:
            SnowError: there is no task of this name, or it cannot be read.
        """
        if name not in self._artifacts:
            if not self.store.has(name):
                raise NotFoundError(unknown_task(self.path, name))
            self._stamps[name] = self.store.stamp(name)
            artifact = self.store.read(name, self._load)
            self.forget(name)
            self._artifacts[name] = dataclasses.replace(artifact, name=name)
        return self._artifacts[name]

    def _load(self, folder: Path) -> Artifact:
        return Artifact.load(folder, self.source, blueprints=self._blueprints, compare_record=True)

    def why_broken(self, name: str) -> str | None:
        """Return one line that says why a task cannot answer, or None if it can. A broken task is read only once."""
        if name not in self._artifacts and name not in self._broken:
            try:
                self.get(name)
            except SnowError as error:
                if name not in self._stamps:  # there is no such task: it may come at any time
                    return str(error)
                self._broken[name] = str(error)
        return self._broken.get(name)

    def request(self, name: str) -> Request | Failure:
        """Return what the predictor needs to ask a task, or a `Failure` if the task is unknown or broken."""
        if name == SOURCE_HEAD:
            return Request(None, ClassKind(self.head_classes))
        reason = self.why_broken(name)
        if reason is not None:
            return Failure(name, reason)
        artifact = self.get(name)
        return Request(artifact.method, artifact.labels, artifact.familiarity)

    def requests(self, names: Collection[str], required: bool) -> dict[str, Request | Failure]:
        """Return the requests of tasks by name. `required`: an unknown task is an error, not a failure of its own.

        Raises:
            NotFoundError: a required task is unknown.
        """
        if required:
            self.require(*(name for name in names if name != SOURCE_HEAD))
        with without_collection():
            return {name: self.request(name) for name in names}

    def all_names(self) -> list[str]:
        """List the names of all tasks. Raises NotFoundError: the hub was removed."""
        names = self.store.names()
        if not names and not self.path.exists():
            raise NotFoundError(f"hub {self.path} is not there any more")
        return names

    @cached_property
    def head_classes(self) -> tuple[str, ...]:
        """Names of the classes of the source's own head: numbers, in the order of its logits."""
        return tuple(map(str, range(self.source.num_classes)))

    def broken(self) -> dict[str, str]:
        """Map the name of each task that cannot answer to the reason."""
        with without_collection():
            reasons = {name: self.why_broken(name) for name in self.store.names()}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def usable(self) -> list[str]:
        """List the names of the tasks that can answer; the log names each of the others once."""
        broken = self.broken()
        for name in broken.keys() - self._warned:
            logging.getLogger("snow").warning("task %s of hub %s is left out: %s", name, self.path, broken[name])
        self._warned.update(broken)
        return [name for name in self.store.names() if name not in broken]

    def refresh(self) -> list[str]:
        """Forget the tasks whose folders another process changed, replaced or removed, and return their names."""
        changed = sorted(name for name, stamp in self._stamps.items() if self.store.stamp(name) != stamp)
        for name in changed:
            self.forget(name)
            del self._stamps[name]
        return changed

    def forget(self, name: str) -> None:
        self._artifacts.pop(name, None)
        self._broken.pop(name, None)
        self._warned.discard(name)

    def remove(self, name: str) -> None:
        """Raises SnowError: there is no such task."""
        if not self.store.remove(name):
            raise NotFoundError(unknown_task(self.path, name))
        self.forget(name)
