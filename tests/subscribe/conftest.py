"""Statistics of channels, made up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snow.subscribe import ChannelStatistics

MakeStatistics = Callable[[Tensor, Tensor], ChannelStatistics]


@pytest.fixture(scope="session")
def make_statistics() -> MakeStatistics:
    """Make statistics from standard deviations and scores, (N,); their moments have mean 0 and deviation 1."""

    def make(std: Tensor, score: Tensor) -> ChannelStatistics:
        zeros = torch.zeros(2, len(std))
        return ChannelStatistics(std, score, zeros, zeros + 1, 100)

    return make
