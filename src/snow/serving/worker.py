"""The pass: the only place that touches networks. Everything here runs on one thread."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.inference import group_by_task
from snow.inference.prediction import SOURCE_HEAD
from snow.methods import Method
from snow.serving.errors import without_paths
from snow.source import Features

log = logging.getLogger("snow.serving")


@dataclass(frozen=True)
class Catalog:
    """The tasks at one moment: those that answer, and why the others do not. Nobody changes it."""

    tasks: Mapping[str, Artifact] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranked:
    """One task's answer to one picture: (C,) probabilities, largest first, and (C,) the classes they belong to."""

    classes: tuple[str, ...]
    probabilities: Tensor
    order: Tensor

    def top(self, k: int) -> list[tuple[str, float]]:
        return [
            (self.classes[index], value)
            for index, value in zip(self.order[:k].tolist(), self.probabilities[:k].tolist(), strict=True)
        ]


Answers = dict[str, Ranked | str]
"""By task: what it answers to one picture, or one line why it does not."""


class Worker:
    """Asks the tasks of a hub, and looks after them between two passes.

    Raises:
        SnowError: there is no such device.
    """

    def __init__(self, hub: Hub, device: str = "cpu") -> None:
        self.hub = hub
        try:
            self.hub.source.to(device)
        except (RuntimeError, AssertionError) as error:
            raise SnowError(f"device {device} cannot be used: {str(error).partition(chr(10))[0]}") from error

    def get_ready(self) -> None:
        """Raises SnowError: the engine lacks what it needs."""
        self.hub.engine.running(self._device)

    def warm_up(self) -> None:
        """The first pass takes longer than the others."""
        size = self.hub.source.preprocessing.image_size
        self.answer([torch.zeros(3, size, size, dtype=torch.uint8)], [self.hub.names()])

    def refresh(self) -> Catalog:
        """Reads what has changed in the hub's folder."""
        self.hub.refresh()
        broken = {name: without_paths(why, self.hub.path) for name, why in self.hub.broken().items()}
        found: dict[str, Artifact] = {}
        for name in self.hub.names():
            if name not in broken:
                try:
                    found[name] = self.hub.task(name)
                except SnowError as error:  # it has gone, or was damaged, this very moment
                    log.info("task %s: %s", name, error)
        return Catalog(found, broken)

    @torch.inference_mode()
    def answer(self, images: Sequence[Tensor], wanted: Sequence[Collection[str]]) -> list[Answers]:
        """One pass of the source over all pictures, and each task on those that ask for it.

        Args:
            images: B of uint8 (3, S, S).
            wanted: for each picture the names of tasks, `SOURCE_HEAD` among them for the source's own.
        """
        answers: list[Answers] = [{} for _ in images]
        order, runs = group_by_task(wanted)
        methods, failed = self._methods(runs)
        batch = torch.stack([images[picture] for picture in order]).to(self._device)
        seen = dict(zip(methods, self.hub.engine.observe(batch, list(methods.values())), strict=True))
        for name, (start, stop) in runs.items():
            asking = [place for place in range(start, stop) if name in wanted[order[place]]]
            found = failed.get(name) or self._ranked(name, methods[name], seen[name].rows(start, stop))
            for place in asking:
                answers[order[place]][name] = found if isinstance(found, str) else found[place - start]
        return answers

    def _methods(self, names: Collection[str]) -> tuple[dict[str, Method | None], dict[str, str]]:
        """The methods that are asked, None for the source's own head, and why others cannot be."""
        methods: dict[str, Method | None] = {}
        failed: dict[str, str] = {}
        for name in names:
            try:
                methods[name] = None if name == SOURCE_HEAD else self.hub.task(name).method.to(self._device)
            except SnowError as error:
                failed[name] = str(error)
        return methods, failed

    def _ranked(self, name: str, method: Method | None, features: Features) -> list[Ranked | str] | str:
        """A task's answer to each of some pictures; one that fails must not take the others with it."""
        try:
            logits = features.logits if method is None else self.hub.engine.answer(method, features)
        except Exception as error:
            log.exception("task %s failed", name)
            return f"task {name} failed: {type(error).__name__}"
        classes = self.hub.classes(name)
        probabilities, order = (value.cpu() for value in logits.float().softmax(1).sort(1, descending=True))
        return [
            Ranked(classes, row, ranked) if sound else f"task {name} answers with what is no number"
            for row, ranked, sound in zip(probabilities, order, probabilities.isfinite().all(1).tolist(), strict=True)
        ]

    @property
    def _device(self) -> torch.device:
        return next(self.hub.source.buffers()).device
