"""Which channels a task took, over time (paper, Figure 5)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from snow.errors import SnowError


@dataclass(frozen=True)
class SelectionHistory:
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

        `selected_mask` counts the last moment's channels, `from_start` those of them that the first moment had too, and
        `ever` all that some moment had; `newcomers` counts, for each moment after the first, the channels that the one
        before had not, and `freeze_selection` is the step of the last moment that had any.
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
        """Raises OSError: it cannot be written."""
        path.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Of a safetensors file with `steps`, `batches`, and for each tap `NUMBER.NAME`: (m / 8, N) bytes, a bit a
        moment, compressed by zlib.
        """
        taps = {f"{number:04}.{tap}": _packed(masks) for number, (tap, masks) in enumerate(self.masks.items())}
        return save({"steps": self.steps, "batches": torch.tensor(self.batches), **taps})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises SnowError: the file is missing or damaged."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SnowError(f"{path} cannot be read: {error.strerror or error}") from error
        return cls.from_bytes(content, str(path))

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> Self:
        """What `to_bytes` made; `name` is what an error calls it.

        Raises:
            SnowError: it is damaged.
        """
        try:
            tensors = load(content)
            steps, batches = tensors.pop("steps"), int(tensors.pop("batches"))
            if steps.ndim != 1 or not len(steps) or batches < 1:
                raise ValueError("its steps are missing")
            masks = {key.split(".", 1)[1]: _unpacked(tensors[key], len(steps)) for key in sorted(tensors)}
        except Exception as error:  # a damaged file can fail in any way
            raise SnowError(f"{name} cannot be read: {' '.join(str(error).split())}") from error
        return cls(steps, batches, masks)


def _packed(masks: Tensor) -> Tensor:
    """A choice that has settled repeats itself: it takes a twentieth of what it would without compression."""
    content = zlib.compress(np.packbits(masks.numpy(), axis=0).tobytes(), 9)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _unpacked(content: Tensor, moments: int) -> Tensor:
    bits = np.frombuffer(zlib.decompress(content.numpy().tobytes()), dtype=np.uint8)
    return torch.from_numpy(np.unpackbits(bits.reshape(-(-moments // 8), -1), axis=0, count=moments)).bool()
