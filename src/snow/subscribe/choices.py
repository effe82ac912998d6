"""Which channels a task took, over time (paper, Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from snow.errors import SnowError

FINAL = "(final)"
"""Stands among the taps for the source's final features: no module has this name."""

_TAP = "tap."


@dataclass(frozen=True)
class Choices:
    """What a task would have taken if it had answered at some moments of its training.

    Attributes:
        steps: (m,), how many training steps were done at each moment; ascending.
        batches: steps in an epoch.
        masks: tap, or `FINAL` -> (m, N) of bool.
    """

    steps: Tensor
    batches: int
    masks: dict[str, Tensor]

    def only(self, patterns: Sequence[str]) -> Self:
        """Those of the taps that a name or shell pattern matches.

        Raises:
            SnowError: one matches nothing.
        """
        for pattern in patterns:
            if not any(fnmatchcase(tap, pattern) for tap in self.masks):
                raise SnowError(f"no choice was made at {pattern!r}: there are {', '.join(self.masks)}")
        masks = {tap: mask for tap, mask in self.masks.items() if any(fnmatchcase(tap, each) for each in patterns)}
        return replace(self, masks=masks)

    def summary(self, tap: str) -> dict[str, Any]:
        """How the choice at one tap went, as JSON values.

        `taken` counts the last moment's channels, `from_start` those of them that the first moment had too, and
        `ever` all that some moment had; `newcomers` counts, for each moment after the first, the channels that the one
        before had not, and `settled` is the step of the last moment that had any.
        """
        masks = self.masks[tap]
        newcomers = (masks[1:] & ~masks[:-1]).sum(1)
        changed = newcomers.nonzero().flatten()
        return {
            "channels": masks.shape[1],
            "taken": int(masks[-1].sum()),
            "ever": int(masks.any(0).sum()),
            "from_start": int((masks[0] & masks[-1]).sum()),
            "settled": int(self.steps[changed[-1] + 1]) if len(changed) else 0,
            "newcomers": newcomers.tolist(),
            "chosen": masks[-1].nonzero().flatten().tolist(),
        }

    def save(self, path: Path) -> None:
        """A NumPy archive: `steps`, `batches`, and for each tap `tap.NAME`, (m / 8, N) bytes: a bit a moment."""
        arrays: dict[str, Any] = {"steps": self.steps.numpy(), "batches": self.batches}
        packed = {f"{_TAP}{tap}": np.packbits(masks.numpy(), axis=0) for tap, masks in self.masks.items()}
        np.savez_compressed(path, **arrays, **packed)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises SnowError: the file is missing or damaged."""
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
            steps, batches = torch.from_numpy(arrays.pop("steps")), int(arrays.pop("batches"))
            unpacked = {tap: np.unpackbits(bits, axis=0, count=len(steps)) for tap, bits in arrays.items()}
            masks = {tap.removeprefix(_TAP): torch.from_numpy(bits).bool() for tap, bits in unpacked.items()}
            if steps.ndim != 1 or not len(steps) or batches < 1 or any(mask.ndim != 2 for mask in masks.values()):
                raise ValueError("its arrays have other shapes")
        except Exception as error:  # a damaged archive can fail in any way
            raise SnowError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
        return cls(steps, batches, masks)
