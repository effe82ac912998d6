"""The compiled engine: source in PyTorch, deltas in compiled C, see `delta.c`."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from snow.inference.compiled.library import load_library
from snow.inference.compiled.program import Program, UnsupportedError, make_program
from snow.inference.compiled.runner import Runner, moments
from snow.inference.compiled.task import PackedTask, pack
from snow.inference.readout import ReadoutInputs, ReadoutWeights
from snow.inference.stacked import is_stackable
from snow.inference.stacked_engine import StackedEngine
from snow.methods import Method
from snow.methods.snow import Snow
from snow.source import Features, Source


class CompiledEngine(StackedEngine):
    """Runs deltas of MobileNets, EfficientNets and ResNets in C, on a CPU; everything else as the stacked engine does.

    It needs a C compiler, which it calls once per machine, for a second or two. Each task is computed by itself, so
    that no other one changes its logits.
    """

    name: ClassVar[str] = "compiled"
    isolated: ClassVar[bool] = False  # where a delta is stacked

    def __init__(self, source: Source, folder: Path | None = None) -> None:
        super().__init__(source, folder)
        self._packed: WeakKeyDictionary[Method, PackedTask | None] = WeakKeyDictionary()
        self._runners: dict[Hashable, Runner | None] = {}

    def prepare(self, source: Source) -> Source:
        load_library()
        return super().prepare(source)

    def forget_methods(self) -> None:
        super().forget_methods()
        self._packed.clear()

    def moments(self, features: Features, taps: Collection[str]) -> dict[str, Tensor]:
        if not _is_plain(features):
            return super().moments(features, taps)
        names = sorted(taps)
        return dict(zip(names, moments([_places(features.maps[tap]) for tap in names]), strict=True))

    def answers(self, methods: Sequence[Method], features: Features) -> list[Tensor | Exception]:
        if not _is_plain(features):
            return super().answers(methods, features)
        packed = [self._packed_or_none(method, features) for method in methods]
        results: dict[int, Tensor | Exception] = {}
        runners: dict[int, list[int]] = {}
        for position, task in enumerate(packed):
            if task is not None:
                runners.setdefault(id(task.program), []).append(position)
        for positions in runners.values():
            tasks = [task for position in positions if (task := packed[position]) is not None]
            logits = self._run(tasks, features)
            for position, output in zip(positions, logits, strict=True):
                results[position] = output[:, : methods[position].num_classes]
        others = [position for position in range(len(methods)) if position not in results]
        results |= zip(others, super().answers([methods[position] for position in others], features), strict=True)
        return [results[position] for position in range(len(methods))]

    def _run(self, tasks: Sequence[PackedTask], features: Features) -> Tensor:
        program = tasks[0].program
        runner = next(runner for runner in self._runners.values() if runner is not None and runner.program is program)
        maps = [_places(features.maps[tap]) for tap in program.taps]
        return runner.run(tasks, _places(features.images), maps, runner.inputs.values(features).contiguous())

    def _packed_or_none(self, method: Method, features: Features) -> PackedTask | None:
        """Lay out a method at its first answer; None if the compiled code cannot run it."""
        if method not in self._packed:
            try:
                self._packed[method] = self._pack(method, features)
            except Exception:  # a network can fail in any way: `answer` then says how
                self._packed[method] = None
        return self._packed[method]

    def _pack(self, method: Method, features: Features) -> PackedTask | None:
        if not isinstance(method, Snow):
            return None
        folded, classes = self.folded(method, features), method.num_classes
        delta, inputs = folded.delta, ReadoutInputs.of(folded)
        if delta is not None and not is_stackable(delta):
            return None
        sides = {} if delta is None else {tap: features.maps[tap].shape[-1] for tap in delta.taps}
        key = None if delta is None else method.plan, tuple(sides.items()), inputs
        if key not in self._runners:
            size = features.images.shape[-1]
            try:
                program = Program(()) if delta is None else make_program(method.plan, delta, sides, size)
                self._runners[key] = Runner(program, inputs)
            except UnsupportedError:
                self._runners[key] = None
        runner = self._runners[key]
        if runner is None:
            return None
        task = pack(runner.program, delta, ReadoutWeights.of(folded, inputs.offsets(features)))
        agrees = self.agrees(method, folded, features, lambda picture: self._run([task], picture)[0, :, :classes])
        return task if agrees else None  # else the method is more than its delta, or it gives NaN


def _is_plain(features: Features) -> bool:
    """Whether the compiled code can read these tensors."""
    tensors = (features.images, features.final, *features.maps.values())
    return all(value.device.type == "cpu" and value.dtype == torch.float32 for value in tensors)


def _places(x: Tensor) -> Tensor:
    """View a map by places: (B, N, H, W) -> (B, H, W, N), contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()
