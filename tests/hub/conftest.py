"""A hub in a new folder, and pictures to ask it about."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snow.hub import Hub
from snow.source import Source

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def hub(resnet: Source, tmp_path: Path) -> Hub:
    """One whose answers are those of the networks as they are, bit by bit."""
    return Hub(Hub.create(tmp_path / "hub", resnet).path, resnet, engine="eager")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
