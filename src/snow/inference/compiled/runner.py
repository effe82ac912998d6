"""Run a program for some tasks and pictures on several threads, which the compiled code lets run side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from snow.inference.compiled.library import load_library
from snow.inference.compiled.program import MAX_INPUTS, Program
from snow.inference.compiled.task import PackedTask
from snow.inference.readout import ReadoutInputs

TASKS_AT_ONCE = 8
"""Tasks that run together for one picture: a map stays in the processor's cache for all of them."""


@dataclass
class Runner:
    """Runs tasks of one program. Only one thread at a time may use it."""

    program: Program
    inputs: ReadoutInputs
    _table: np.ndarray = field(init=False)
    _scratch: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._table = self.program.table()

    def run(self, tasks: Sequence[PackedTask], picture: Tensor, maps: Sequence[Tensor], known: Tensor) -> Tensor:
        """Compute logits: T tasks of B pictures -> (T, B, C), with as many classes as the task with the most.

        Args:
            picture: (B, S, S, 3), contiguous, as the maps are.
            maps: (B, H, W, N) for each tap.
            known: (B, F), moments and final features.
        """
        count, batch, classes = len(tasks), len(known), max(task.classes for task in tasks)
        logits = torch.empty(count, batch, classes)
        inputs = [picture, *maps]
        starts = np.array([value.data_ptr() for value in inputs]), np.array([4 * value[0].numel() for value in inputs])
        addresses = np.ascontiguousarray(starts[0] + np.arange(batch)[:, None] * starts[1])
        weights = np.array([task.address for task in tasks], np.int64)
        threads = torch.get_num_threads()
        step = max(1, min(TASKS_AT_ONCE, -(-count * batch // threads)))
        jobs = iter([(b, first, min(first + step, count)) for b in range(batch) for first in range(0, count, step)])
        while len(self._scratch) < threads:
            self._scratch.append(
                (torch.zeros(self.program.shared + MAX_INPUTS), torch.zeros(self.program.kept * TASKS_AT_ONCE))
            )
        library = load_library()

        def work(worker: int) -> None:
            shared, kept = (value.data_ptr() for value in self._scratch[worker])
            for b, first, last in jobs:
                library.snow_run(
                    self._table.ctypes.data, len(self._table), addresses[b].ctypes.data, known[b].data_ptr(),
                    weights.ctypes.data, first, last, shared, self.program.shared, kept, self.program.kept,
                    self.program.own, logits.data_ptr() + 4 * b * classes, batch * classes,
                )  # fmt: skip

        in_threads(work, min(threads, count * batch))
        return logits


def moments(maps: Sequence[Tensor]) -> list[Tensor]:
    """Compute mean and standard deviation of each channel: (B, H, W, N) each, contiguous -> (B, 2, N)."""
    library = load_library()
    results = [value.new_empty(len(value), 2, value.shape[3]) for value in maps]
    jobs = iter([(value, result, b) for value, result in zip(maps, results, strict=True) for b in range(len(value))])

    def work(_worker: int) -> None:
        for value, result, b in jobs:
            places, channels = value.shape[1] * value.shape[2], value.shape[3]
            library.snow_moments(
                value.data_ptr() + 4 * b * places * channels, places, channels,
                result.data_ptr() + 8 * b * channels,
            )  # fmt: skip

    in_threads(work, torch.get_num_threads())
    return results


_EXECUTORS: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process, because a fork takes no threads with it


def in_threads(work: Callable[[int], None], threads: int) -> None:
    """Call `work` with each number below `threads` at the same time, the last of them on this thread."""
    others: list[Future[None]] = []
    if threads > 1:
        key = os.getpid(), threads
        if key not in _EXECUTORS:
            _EXECUTORS[key] = ThreadPoolExecutor(threads - 1, "snow-compiled")
        others = [_EXECUTORS[key].submit(work, number) for number in range(threads - 1)]
    work(threads - 1)
    for other in others:
        other.result()
