"""A source without weights: what it is asked for are shapes and counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from snow.architectures import EMBEDDED
from snow.errors import SnowError
from snow.source import Source


def unfilled_source(spec: str, image_size: int | None, taps: Sequence[str] = (), without: Sequence[str] = ()) -> Source:
    """A source without weights, to ask for its shapes.

    Raises:
        SnowError: as `Source.open`.
    """
    name = EMBEDDED if spec == "embedded" else spec
    options = {"taps": taps or None, "without_taps": without}
    try:
        with torch.device("meta"):
            return Source.open(name, False, None, image_size, **options)
    except (RuntimeError, SnowError):  # some CNNs read their tensors while they are built
        return Source.open(name, False, None, image_size, **options)
