"""Features of a source with one small map, in which some channels tell the classes apart."""

from __future__ import annotations

import torch
from torch import Tensor

from snow.source import Features

N, K, FINAL = 12, 3, 10
"""Channels of the map, channels that a task selects, and final features."""


def make_features(labels: Tensor, seed: int = 0) -> Features:
    """Make features whose classes differ in channels 2, 5 and 7 of the map, and 1 and 8 of the final features."""
    generator = torch.Generator().manual_seed(seed)
    count = len(labels)
    x = torch.randn(count, N, 8, 8, generator=generator)
    final = torch.randn(count, FINAL, generator=generator)
    signal = labels.clamp(min=0).float()
    for channel in (2, 5, 7):
        x[:, channel] += signal.view(-1, 1, 1)
    for channel in (1, 8):
        final[:, channel] += 5 * signal
    return Features(torch.randn(count, 3, 32, 32, generator=generator), {"map": x}, final, torch.zeros(count, 2))
