"""The pass: the only place that touches networks. Everything here runs on one thread."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snow.artifact import Artifact
from snow.errors import SnowError
from snow.hub import SOURCE_HEAD, Hub
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
    """Asks the tasks of a hub, and looks after them between two passes."""

    def __init__(self, hub: Hub, device: str = "cpu") -> None:
        self.hub = hub
        self.hub.source.to(device)

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

    def answer(self, images: Sequence[Tensor], wanted: Sequence[Collection[str]]) -> list[Answers]:
        """One pass of the source over all pictures, and each task on those that ask for it.

        Args:
            images: B of uint8 (3, S, S).
            wanted: for each picture the names of tasks, `SOURCE_HEAD` among them for the source's own.
        """
        answers: list[Answers] = [{} for _ in images]
        rows_of: dict[str, list[int]] = {}
        for row, names in enumerate(wanted):
            for name in names:
                rows_of.setdefault(name, []).append(row)
        for name, logits in self.logits(torch.stack(list(images)), rows_of).items():
            rows = rows_of[name]
            if isinstance(logits, str):
                for row in rows:
                    answers[row][name] = logits
                continue
            classes = self.hub.classes(name)
            probabilities, order = (value.cpu() for value in logits.float().softmax(1).sort(1, descending=True))
            sound = probabilities.isfinite().all(1).tolist()
            for place, row in enumerate(rows):
                answers[row][name] = (
                    Ranked(classes, probabilities[place], order[place])
                    if sound[place]
                    else f"task {name} answers with what is no number"
                )
        return answers

    @torch.inference_mode()
    def logits(self, images: Tensor, rows_of: Mapping[str, Sequence[int]]) -> dict[str, Tensor | str]:
        """By task: logits (rows, classes) for its rows of `images` (B, 3, S, S) uint8; or why it has none."""
        source = self.hub.source
        device = next(source.buffers()).device
        methods, found = {}, {}
        for name in rows_of:
            if name != SOURCE_HEAD:
                try:
                    methods[name] = self.hub.task(name).method.to(device)
                except SnowError as error:
                    found[name] = without_paths(str(error), self.hub.path)
        features = source(images.to(device), frozenset[str]().union(*(one.taps for one in methods.values())))
        if SOURCE_HEAD in rows_of:
            found[SOURCE_HEAD] = features.logits[list(rows_of[SOURCE_HEAD])]
        for name, method in methods.items():
            try:
                found[name] = method(_rows(features, rows_of[name], method.taps))
            except Exception as error:  # one that fails must not take the others with it
                log.exception("task %s failed", name)
                found[name] = f"task {name} failed: {type(error).__name__}"
        return found


def _rows(features: Features, rows: Sequence[int], taps: Collection[str]) -> Features:
    """What the source gives for some of the pictures; `taps` are the maps that are needed."""
    if len(rows) == len(features.images):
        return features
    index = torch.tensor(rows, device=features.images.device)
    maps = {tap: features.maps[tap][index] for tap in taps}
    return Features(features.images[index], maps, features.final[index], features.logits[index])
