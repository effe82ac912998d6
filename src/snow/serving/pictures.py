"""From the bytes of a request to the tensor of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from torch import Tensor

from snow.data import Transform
from snow.data.decode import PictureError, decode_file
from snow.serving.errors import RefusedError

CODES = {"broken": "broken_picture"}
"""What `PictureError.reason` is called here, where that differs."""


@dataclass(frozen=True)
class Picture:
    """As it came; `name` is what the client calls it."""

    content: bytes
    name: str | None = None


def prepare(picture: Picture, number: int, transform: Transform, max_pixels: int) -> Tensor:
    """uint8 (3, S, S).

    Args:
        number: of the picture in its request, from 0.

    Raises:
        RefusedError: it cannot be decoded, or is too large.
    """
    try:
        return transform(decode_file(BytesIO(picture.content), f"picture {number}", max_pixels))
    except PictureError as error:
        raise RefusedError(CODES.get(error.reason, error.reason), str(error), number) from None
