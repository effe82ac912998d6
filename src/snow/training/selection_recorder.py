"""Record which channels a method selects, over the time of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from snow.methods import Method
from snow.subscribe import SelectionHistory

RECORDS = 200
"""Largest number of records of a run, unless it has more epochs."""


def recording_steps(epochs: int, batches: int) -> frozenset[int]:
    """Return after how many steps of an epoch to record: evenly spaced, and at the end of every epoch."""
    parts = min(batches, max(1, RECORDS // epochs))
    return frozenset(round(batches * part / parts) for part in range(1, parts + 1))


class SelectionRecorder:
    """Records the channels that a method would select if training ended now, if its weights are not averaged.

    That is the selection without noise, by the current weights. Recording draws no random numbers and changes no
    weights. A record takes a bit for each channel, and stays on the method's device: a GPU is not synchronised.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._channels = {tap: len(mask) for tap, mask in method.selected_mask().items()}
        self._steps: list[int] = []
        self._packed: list[Tensor] = []

    def record(self, step: int) -> None:
        """Record the selection after `step` steps."""
        if self._channels:
            self._steps.append(step)
            self._packed.append(_pack(torch.cat(list(self._method.selected_mask().values()))))

    def history(self, batches: int) -> SelectionHistory | None:
        """Return all records, or None for a method that selects no channels. `batches`: steps in an epoch."""
        if not self._steps:
            return None
        packed = torch.stack(self._packed).cpu().numpy()
        bits = np.unpackbits(packed, axis=1, count=sum(self._channels.values()), bitorder="little")
        masks = torch.from_numpy(bits).bool().split(list(self._channels.values()), dim=1)
        return SelectionHistory(torch.tensor(self._steps), batches, dict(zip(self._channels, masks, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": list(self._steps), "packed": torch.stack(self._packed) if self._packed else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = list(state["steps"])
        self._packed = [] if state["packed"] is None else list(state["packed"].unbind())


def _pack(mask: Tensor) -> Tensor:
    """Pack bits into bytes, the first into the lowest bit: (n,) bool -> (ceil(n / 8),) uint8."""
    bits = torch.nn.functional.pad(mask.byte(), (0, -len(mask) % 8)).view(-1, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=mask.device)).sum(1, dtype=torch.uint8)
