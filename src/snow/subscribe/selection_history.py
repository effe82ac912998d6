"""Which channels a task selected in the course of training (paper, Figure 5)."""

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
    """The selection of a task at m moments of its training, as it would answer then.

    Attributes:
        steps: (m,), training steps done at each moment; ascending.
        batches: steps per epoch.
        masks: tap, or `FINAL` -> (m, N) of bool: the selected channels.
    """

    steps: Tensor
    batches: int
    masks: dict[str, Tensor]

    def only(self, patterns: Sequence[str]) -> Self:
        """Keep the taps that a name or shell pattern matches.

        Raises:
            SnowError: a pattern matches nothing.
        """
        for pattern in patterns:
            if not any(fnmatchcase(tap, pattern) for tap in self.masks):
                raise SnowError(f"no selection at {pattern!r}: there are {', '.join(self.masks)}")
        masks = {tap: mask for tap, mask in self.masks.items() if any(fnmatchcase(tap, name) for name in patterns)}
        return replace(self, masks=masks)

    def summary(self, tap: str) -> dict[str, Any]:
        """Summarise the selection at one tap, as JSON values.

        Returns:
            channels: N.
            taken: number of channels selected at the last moment.
            ever: number of channels selected at any moment.
            from_start: number of channels selected at the first and the last moment.
            settled: training step of the last moment with a newcomer; 0 if there is none.
            newcomers: for each moment after the first, the number of channels that the one before did not have.
            chosen: the channels selected at the last moment.
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
        """Write a file. Raises OSError if it cannot be written."""
        path.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Serialise to safetensors: `steps`, `batches`, and a tensor `NUMBER.TAP` for each tap.

        The tensor holds the masks as (m / 8, N) bytes, one bit per moment, compressed by zlib.
        """
        taps = {f"{number:04}.{tap}": _pack(masks) for number, (tap, masks) in enumerate(self.masks.items())}
        return save({"steps": self.steps, "batches": torch.tensor(self.batches), **taps})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file. Raises SnowError if it is missing or damaged."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SnowError(f"{path} cannot be read: {error.strerror or error}") from error
        return cls.from_bytes(content, str(path))

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> Self:
        """Deserialise the result of `to_bytes`.

        Args:
            name: what an error message calls the content.

        Raises:
            SnowError: the content is damaged.
        """
        try:
            tensors = load(content)
            steps, batches = tensors.pop("steps"), int(tensors.pop("batches"))
            if steps.ndim != 1 or not len(steps) or batches < 1:
                raise ValueError("steps are missing")
            masks = {key.split(".", 1)[1]: _unpack(tensors[key], len(steps)) for key in sorted(tensors)}
        except Exception as error:  # a damaged file can fail in any way
            raise SnowError(f"{name} cannot be read: {' '.join(str(error).split())}") from error
        return cls(steps, batches, masks)


def _pack(masks: Tensor) -> Tensor:
    """Pack masks into compressed bits: (m, N) of bool -> (bytes,). A stable selection shrinks 20 times."""
    content = zlib.compress(np.packbits(masks.numpy(), axis=0).tobytes(), 9)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _unpack(content: Tensor, moments: int) -> Tensor:
    """Restore masks: (bytes,) -> (m, N) of bool."""
    bits = np.frombuffer(zlib.decompress(content.numpy().tobytes()), dtype=np.uint8)
    return torch.from_numpy(np.unpackbits(bits.reshape(-(-moments // 8), -1), axis=0, count=moments)).bool()
