"""What is known of channels, made up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snow.subscribe import ChannelStatistics

Known = Callable[[Tensor, Tensor], ChannelStatistics]


@pytest.fixture(scope="session")
def known() -> Known:
    """From standard deviations and scores, (N,): statistics whose moments say nothing."""

    def make(std: Tensor, score: Tensor) -> ChannelStatistics:
        nothing = torch.zeros(2, len(std))
        return ChannelStatistics(std, score, nothing, nothing + 1, 100)

    return make
