"""Multiplications of a pass, and the share of the source's speed that they leave to any number of tasks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from snow.inference.fused import example
from snow.methods import Method
from snow.source import Source


@torch.no_grad()
def count_multiplications(source: Source, methods: Mapping[str, Method]) -> dict[str, int]:
    """Count multiply-accumulate operations of one picture: of "source", and of each method by name.

    Those of a method that does not read the source are all of its own. Pooling and activations do not count.
    """
    picture = example(source)
    counts = {}
    with FlopCounterMode(display=False) as counter:
        features = source(picture)
    counts["source"] = counter.get_total_flops() // 2
    for name, method in methods.items():
        with FlopCounterMode(display=False) as counter:
            method(features)
        counts[name] = counter.get_total_flops() // 2
    return counts


def speed_limit(source: int, task: int, tasks: int) -> float:
    """Compute the share of the source's speed that is left if every multiplication takes as long."""
    return source / (source + tasks * task)
