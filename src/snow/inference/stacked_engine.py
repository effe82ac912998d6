"""The stacked engine: deltas of one plan run together, see `stacked`."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from snow.inference.fused import FusedEngine, fuse_for_inference
from snow.inference.readout import ReadoutInputs, ReadoutWeights, room
from snow.inference.stacked import SLOTS, Slots, StackedDelta, StackedStart, is_stackable
from snow.methods import Method
from snow.methods.snow import Snow
from snow.source import Features, Source

TASK_PICTURES = {"cpu": 32}
"""Pairs of a task and a picture that run at a time, by device type: on a CPU their maps stay in its cache."""


@dataclass(frozen=True)
class _Stack:
    """A stack and its free slots, the next one last."""

    network: StackedDelta | StackedStart
    free: list[int] = field(default_factory=lambda: list(reversed(range(SLOTS))))


@dataclass(frozen=True)
class _Home:
    """The place of a method in a stack."""

    stack: _Stack
    slot: int


class StackedEngine(FusedEngine):
    """Runs the deltas of one plan as one network, and other methods one after the other, in PyTorch.

    A new task fills a free slot and leaves the others where they are. How many tasks run together changes logits by
    float32 rounding.
    """

    name: ClassVar[str] = "stacked"
    isolated: ClassVar[bool] = False

    def __init__(self, source: Source, folder: Path | None = None) -> None:
        super().__init__(source, folder)
        self._homes: WeakKeyDictionary[Method, _Home | None] = WeakKeyDictionary()
        self._stacks: dict[Hashable, list[_Stack]] = {}

    def prepare(self, source: Source) -> Source:
        return fuse_for_inference(source)

    def forget_methods(self) -> None:
        super().forget_methods()
        self._homes.clear()
        self._stacks.clear()

    def answers(self, methods: Sequence[Method], features: Features) -> list[Tensor | Exception]:
        results: dict[int, Tensor | Exception] = {}
        stacks: dict[int, list[tuple[int, _Home]]] = {}
        for position, method in enumerate(methods):
            home = self._home_or_none(method, features)
            if home is None:
                results[position] = self._answer_or_error(method, features)
            else:
                stacks.setdefault(id(home.stack), []).append((position, home))
        for members in stacks.values():
            members.sort(key=lambda member: member[1].slot)
            logits = _run(members[0][1].stack.network, [home.slot for _, home in members], features)
            for (position, _), output in zip(members, logits, strict=True):
                results[position] = output[:, : methods[position].num_classes]
        return [results[position] for position in range(len(methods))]

    def _home_or_none(self, method: Method, features: Features) -> _Home | None:
        """Find the place of a method in a stack, and give it one at its first answer; None if it cannot be stacked."""
        if method not in self._homes:
            try:
                self._homes[method] = self._settle(method, features)
            except Exception:  # a network can fail in any way: `answer` then says how
                self._homes[method] = None
        return self._homes[method]

    def _settle(self, method: Method, features: Features) -> _Home | None:
        if not isinstance(method, Snow):
            return None
        folded, classes = self.folded(method, features), method.num_classes
        if folded.delta is not None and not is_stackable(folded.delta):
            return None
        stacks = self._stacks.setdefault(_structure(folded, features), [])
        stack = next((stack for stack in stacks if stack.free), None)
        if stack is None:
            network = StackedStart if folded.delta is None else StackedDelta
            stack = _Stack(network(folded, features))
            stacks.append(stack)
        slot = stack.free.pop()
        stack.network.put(slot, folded)
        if not self.agrees(
            method, folded, features, lambda picture: _run(stack.network, [slot], picture)[0, :, :classes]
        ):
            stack.free.append(slot)  # the method is more than its delta, or it gives NaN
            return None
        weakref.finalize(method, stack.free.append, slot)
        return _Home(stack, slot)


def _structure(method: Snow, features: Features) -> Hashable:
    """Describe what deltas of one stack have in common."""
    inputs = ReadoutInputs.of(method)
    weights = ReadoutWeights.of(method, inputs.offsets(features))
    rank = 0 if weights.expand is None else len(weights.expand)
    plan = None if method.delta is None else method.plan
    return plan, room(method.num_classes), rank, inputs, room(len(weights.index))


def _run(network: StackedDelta | StackedStart, slots: Sequence[int], features: Features) -> Tensor:
    """Run some tasks of a stack, a few pictures at a time: slots, ascending -> (T, B, C)."""
    first, last, batch = slots[0], slots[-1], len(features.images)
    neighbours = last - first + 1 == len(slots)
    chosen: Slots = slice(first, last + 1) if neighbours else torch.tensor(slots, device=features.images.device)
    network.select(chosen)
    pairs = TASK_PICTURES.get(features.images.device.type)
    step = batch if pairs is None else max(1, pairs // len(slots))
    return torch.cat([network(features.rows(start, min(start + step, batch))) for start in range(0, batch, step)], 1)
