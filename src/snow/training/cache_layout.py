"""Pack the features of a picture into one row of bytes, and unpack them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from snow.source import FINAL, LOGITS, Features, Preprocessing

PICTURE = "(picture)"
"""Name of the picture itself among the maps, as `FINAL` is of the final features: no module has this name."""

MOMENTS = "(moments) "
"""In front of the name of a tap: the moments of its channels, which are kept as one vector."""

STORED = {"uint8": torch.uint8, "int8": torch.int8, "fp16": torch.float16, "fp32": torch.float32}
ALIGNMENT = 16
LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a picture.

    Attributes:
        name: of a tap, or a name in brackets.
        shape: (H, W, C) or (D,).
        stored: its type in the row, a key of `STORED`. int8 also stores the largest magnitude of each channel.
        given: its type outside.
        start: its first byte in the row.
    """

    name: str
    shape: tuple[int, ...]
    stored: str
    given: str
    start: int

    @property
    def size(self) -> int:
        scales = 4 * self.shape[-1] if self.stored == "int8" else 0
        return scales + math.prod(self.shape) * STORED[self.stored].itemsize

    def encode(self, values: Tensor) -> Tensor:
        """Encode tensors as bytes: (B, *shape) -> (B, size)."""
        if self.stored == "int8":
            values = values.float()
            largest = values.abs().amax((1, 2))
            steps = (values / largest.clamp(min=1e-30)[:, None, None] * 127).round().to(torch.int8)
            return torch.cat([_bytes(largest), _bytes(steps)], 1)
        if self.stored == "fp16":
            values = values.clamp(-LARGEST, LARGEST)
        return _bytes(values.to(STORED[self.stored]))

    def decode(self, content: Tensor) -> Tensor:
        """Decode bytes: (B, size) -> (B, C, H, W) in channels-last memory format, or (B, D)."""
        given = getattr(torch, self.given)
        scales = 4 * self.shape[-1] if self.stored == "int8" else 0
        values = content[:, scales:].view(STORED[self.stored]).unflatten(1, self.shape)
        if self.stored == "int8":
            values = values.float() * (content[:, :scales].view(torch.float32) / 127)[:, None, None]
        if len(self.shape) == 1:
            return values.to(given)
        values = values.permute(0, 3, 1, 2).to(given, memory_format=torch.channels_last)
        return values.contiguous(memory_format=torch.channels_last)  # `to` skips it where the types are equal


@dataclass(frozen=True)
class Layout:
    """Where each tensor is in a row of `size` bytes."""

    parts: tuple[StoredTensor, ...]

    @classmethod
    def of(cls, images: Tensor | None, features: Features, stored: str) -> Self:
        """Lay out a row for features like these.

        Args:
            images: (B, 3, S, S) uint8, if they are to be kept.
            features: of the channels that are to be kept.
            stored: type of the maps: fp32, fp16 or int8. With int8, vectors are stored as fp16.
        """
        parts: list[StoredTensor] = []
        for name, value in _parts(images, features).items():
            kind = "uint8" if name == PICTURE else "fp16" if stored == "int8" and value.ndim == 2 else stored
            start = -(-(parts[-1].start + parts[-1].size) // ALIGNMENT) * ALIGNMENT if parts else 0
            given = str(value.dtype).removeprefix("torch.")
            parts.append(StoredTensor(name, tuple(value.shape[1:]), kind, given, start))
        return cls(tuple(parts))

    @property
    def size(self) -> int:
        return -(-(self.parts[-1].start + self.parts[-1].size) // ALIGNMENT) * ALIGNMENT

    def pack(self, images: Tensor | None, features: Features) -> Tensor:
        """Pack features into rows, (B, size) uint8, on their device."""
        values = _parts(images, features)
        rows = torch.zeros(len(features.final), self.size, dtype=torch.uint8, device=features.final.device)
        for part in self.parts:
            rows[:, part.start : part.start + part.size] = part.encode(values[part.name])
        return rows

    def unpack(self, rows: Tensor, preprocessing: Preprocessing) -> Features:
        """Unpack rows, (B, size) uint8, on their device. Pictures that were not kept have shape (B, 0)."""
        values = {part.name: part.decode(rows[:, part.start : part.start + part.size]) for part in self.parts}
        final, logits = values.pop(FINAL), values.pop(LOGITS)
        picture = values.pop(PICTURE, None)
        images = final.new_empty(len(rows), 0) if picture is None else preprocessing.normalize(picture)
        names = [name for name in values if name.startswith(MOMENTS)]
        moments = {name.removeprefix(MOMENTS): values.pop(name).unflatten(1, (2, -1)) for name in names}
        return Features(images, values, final, logits, moments)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the layout as JSON values."""
        return [{**asdict(part), "shape": list(part.shape)} for part in self.parts]


def _parts(images: Tensor | None, features: Features) -> dict[str, Tensor]:
    """(B, H, W, C) or (B, D) by name, in the same order in every process: taps often come from a set."""
    pictures = {} if images is None else {PICTURE: images}
    maps = {name: value.permute(0, 2, 3, 1) for name, value in {**pictures, **_ordered(features.maps)}.items()}
    moments = {MOMENTS + tap: value.flatten(1) for tap, value in _ordered(features.moments).items()}
    return {**maps, **moments, FINAL: features.final, LOGITS: features.logits}


def _ordered(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(sorted(values.items()))


def _bytes(values: Tensor) -> Tensor:
    return values.contiguous().flatten(1).view(torch.uint8)
