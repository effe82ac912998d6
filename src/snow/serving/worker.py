"""The worker: the only place of a service that touches networks. Everything here runs on one thread."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.hub.overlap import Selections
from snow.inference import Failure, Prediction
from snow.process.memory import without_collection
from snow.serving.errors import without_paths
from snow.serving.facts import TaskFacts, encode_json

log = logging.getLogger("snow.serving")


@dataclass(frozen=True)
class TaskSnapshot:
    """The tasks of a hub at one moment; it never changes.

    Attributes:
        usable: tasks that can answer.
        broken: why each of the other tasks cannot.
        described: of each usable task, what a list shows and what it selects; computed once, when the task is read.
        encoded: `usable` as a list of summaries, and `broken`, in JSON.
    """

    usable: Mapping[str, Artifact] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    described: Mapping[str, TaskFacts] = field(default_factory=dict)
    encoded: tuple[bytes, bytes] = (b"[]", b"{}")

    @cached_property
    def selections(self) -> Selections:
        """The channels that the usable tasks select, to compare them."""
        return Selections({name: facts.selected for name, facts in self.described.items()})

    def __contains__(self, name: str) -> bool:
        return name in self.usable or name in self.broken


class Worker:
    """Runs the predictor of a hub, and reads changes of its tasks between two passes.

    Raises:
        SnowError: there is no such device.
    """

    def __init__(self, hub: Hub, device: str = "cpu") -> None:
        self.hub = hub
        self._described: dict[str, TaskFacts] = {}
        try:
            self.hub.source.to(device)
        except (RuntimeError, AssertionError) as error:
            raise SnowError(f"device {device} cannot be used: {str(error).partition(chr(10))[0]}") from error

    def prepare(self) -> None:
        """Prepare the source for the engine. Raises SnowError: the engine lacks something it needs."""
        self.hub.engine.warm_up()

    def warm_up(self, names: Sequence[str]) -> None:
        """Ask tasks once: the first pass takes longer than those that follow, as an engine prepares each task."""
        size = self.hub.source.preprocessing.image_size
        with without_collection():
            self.predict([torch.zeros(3, size, size, dtype=torch.uint8)], [names])

    def refresh(self) -> TaskSnapshot:
        """Read what has changed in the hub's folder."""
        self.hub.refresh()
        broken = {name: without_paths(reason, self.hub.path) for name, reason in self.hub.broken().items()}
        usable: dict[str, Artifact] = {}
        for name in self.hub.names():
            if name not in broken:
                try:
                    usable[name] = self.hub.task(name)
                except SnowError as error:  # it was removed or damaged just now
                    log.info("task %s: %s", name, error)
        with without_collection():
            self._described = {name: self._describe(artifact) for name, artifact in usable.items()}
        summaries = [facts.summary for facts in self._described.values()]
        return TaskSnapshot(usable, broken, self._described, (encode_json(summaries), encode_json(broken)))

    def _describe(self, artifact: Artifact) -> TaskFacts:
        before = self._described.get(artifact.name)
        return TaskFacts.of(artifact) if before is None or before.artifact is not artifact else before

    @torch.inference_mode()
    def predict(
        self, images: Sequence[Tensor], tasks: Sequence[Collection[str]]
    ) -> list[dict[str, Prediction | Failure]]:
        """Predict with one pass of the source: B pictures -> B dicts of predictions, with traits, by task.

        Args:
            images: (3, S, S) uint8 each.
            tasks: names for each picture; one that is unknown gets a `Failure`.
        """
        requests = {name: self.hub.tasks.request(name) for names in tasks for name in names}
        return self.hub.predictor.run(images, [{name: requests[name] for name in names} for names in tasks], True)
