"""Layers that have a weight column for each slot of a subscription."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Slots(nn.Module, ABC):
    """A layer behind a subscription, which may still change its choice."""

    @abstractmethod
    def keep(self, columns: Tensor) -> None:
        """Keeps these slots' columns for good, in this order."""
