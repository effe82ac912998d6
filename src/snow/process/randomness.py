"""The random number generators of torch, NumPy and Python: seeding, and saving and restoring their states."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch


def seed_all(*seeds: int) -> None:
    """Seed torch (all devices), NumPy and Python from a few numbers."""
    state = int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0])
    torch.manual_seed(state)
    np.random.seed(state % 2**32)
    random.seed(state)


def random_state() -> dict[str, Any]:
    """Return the states of the generators of this process and its device, as tensors and plain values."""
    _, keys, *rest = cast(tuple[Any, ...], np.random.get_state(legacy=True))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": [keys.tolist(), *rest],
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the result of `random_state`."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu())
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), *rest))
    random.setstate(state["python"])


@contextmanager
def fork_rng() -> Generator[None]:
    """Restore all generators after the block, as `torch.random.fork_rng` does for torch's."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
