"""An exponential moving average of a method's weights."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages the floating-point parameters and buffers of a module: `a <- d a + (1 - d) w` after each step.

    After n steps the decay d is n / (n + 10), until that reaches `decay`. The first step copies the weights. Integer
    buffers are not averaged.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self._steps = 0
        self._average = [tensor.clone() for tensor in self._tensors()]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self._decay, self._steps / (self._steps + 10))
        torch._foreach_lerp_(self._average, self._tensors(), 1 - decay)
        self._steps += 1

    @contextmanager
    def swapped_in(self) -> Generator[None]:
        """Let the module hold the average in the block, and its own weights again afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        for average, saved in zip(self._average, state["average"], strict=True):
            average.copy_(saved)

    def _tensors(self) -> list[Tensor]:
        tensors = [*self._module.parameters(), *self._module.buffers()]
        return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]

    @torch.no_grad()
    def _swap(self) -> None:
        for average, weight in zip(self._average, self._tensors(), strict=True):
            before = weight.clone()
            weight.copy_(average)
            average.copy_(before)
