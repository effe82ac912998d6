"""Answers a second when the source and all tasks are asked about the same pictures (paper, section 3.3)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from snow.compare.variant import Variant
from snow.methods import Method
from snow.params import tasks_of
from snow.source import Source
from snow.training.launch import open_fabric

ROUNDS = 3


class Bench:
    """A source with random weights and a batch of random pictures; speed does not depend on either.

    The batch passes the source once; then each task answers from its features, or by a network of its own.
    """

    def __init__(self, architecture: str, image_size: int, batch_size: int, precision: str) -> None:
        self.fabric = open_fabric(precision)
        torch.manual_seed(0)
        self.source = Source.open(architecture, False, image_size=image_size)
        self.fabric.to_device(self.source)
        shape = (batch_size, 3, image_size, image_size)
        images = torch.randint(256, shape, dtype=torch.uint8, device=self.fabric.device)
        self.images = images.contiguous(memory_format=torch.channels_last)

    def measure(self, variant: Variant, classes: Sequence[int]) -> dict[str, Any]:
        """`answers_per_second`, counted as picture × task, the source's own head among the tasks; and their range."""
        tasks = [task.served() for task in tasks_of(self.source, variant, classes)]
        for task in tasks:
            self.fabric.to_device(task)
        answers = len(self.images) * (1 + len(tasks))
        self._pass(tasks)
        speeds = sorted(answers / self._pass(tasks) for _ in range(ROUNDS))
        return {"answers_per_second": median(speeds), "answers_per_second_range": [speeds[0], speeds[-1]]}

    @torch.inference_mode()
    def _pass(self, tasks: Sequence[Method]) -> float:
        """Seconds."""
        started = time.perf_counter()
        with self.fabric.autocast():
            wanted = frozenset[str]().union(*(task.taps for task in tasks))
            features = self.source(self.images, wanted)
            answers = [features.logits, *(task(features) for task in tasks)]
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        assert all(len(answer) == len(self.images) for answer in answers)
        return time.perf_counter() - started
