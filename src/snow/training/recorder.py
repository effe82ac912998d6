"""What a learner takes of its source, kept from time to time (paper, Figure 5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from snow.methods.method import Method
from snow.subscribe import Choices

MOMENTS = 200
"""At most so many in a run, unless it has more epochs."""


def moments(epochs: int, batches: int) -> frozenset[int]:
    """After how many steps of an epoch to look: evenly over the run, and at the end of every epoch."""
    parts = min(batches, max(1, MOMENTS // epochs))
    return frozenset(round(batches * part / parts) for part in range(1, parts + 1))


class Recorder:
    """Asks a method what it would take if it answered now. Nothing is drawn, nothing that learns is touched.

    So this is the choice without noise, by the weights that are being trained: what a run that ended then would keep,
    if it does not average its weights. A moment is a bit a channel, where the method is: a GPU is not waited for.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._channels = {tap: len(mask) for tap, mask in method.taken().items()}
        self._steps: list[int] = []
        self._packed: list[Tensor] = []

    def record(self, step: int) -> None:
        """`step`: how many are done."""
        if self._channels:
            self._steps.append(step)
            self._packed.append(_pack(torch.cat(list(self._method.taken().values()))))

    def choices(self, batches: int) -> Choices | None:
        """All that was recorded; None of a method that makes no choice. `batches`: steps in an epoch."""
        if not self._steps:
            return None
        packed = torch.stack(self._packed).cpu().numpy()
        bits = np.unpackbits(packed, axis=1, count=sum(self._channels.values()), bitorder="little")
        masks = torch.from_numpy(bits).bool().split(list(self._channels.values()), dim=1)
        return Choices(torch.tensor(self._steps), batches, dict(zip(self._channels, masks, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": list(self._steps), "packed": torch.stack(self._packed) if self._packed else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = list(state["steps"])
        self._packed = [] if state["packed"] is None else list(state["packed"].unbind())


def _pack(mask: Tensor) -> Tensor:
    """(n,) of bool to (n / 8,) of bytes, the first in the lowest bit."""
    bytes_ = torch.nn.functional.pad(mask.byte(), (0, -len(mask) % 8)).view(-1, 8)
    return (bytes_ << torch.arange(8, dtype=torch.uint8, device=mask.device)).sum(1, dtype=torch.uint8)
