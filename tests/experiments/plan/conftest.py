"""Figures of machines that nobody has measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def measured() -> Callable[..., dict[str, Any]]:
    """`measured()`: what `snow bench serving` writes, of a machine whose passes take 6 ms and 4 ms a picture, and 1 ms
    and 0.5 ms a picture for each task."""

    def make(**changes: Any) -> dict[str, Any]:
        passes = [
            {"pictures": size, "tasks": count, "seconds": took, "samples": [took] * 5}
            for size in (1, 4, 16)
            for count in (0, 1, 6)
            for took in (0.006 + 0.004 * size + count * (0.001 + 0.0005 * size),)
        ]
        service = {
            "threads": 1,
            "processors": 2,
            "passes": passes,
            "resident_bytes": 500_000_000,
            "device_bytes": None,
            "requests": [
                {"tasks": 1, "decode_seconds": 0.002, "handling_seconds": 0.001},
                {"tasks": 6, "decode_seconds": 0.002, "handling_seconds": 0.0015},
            ],
        }
        return {
            "source_name": "embedded",
            "image_size": 64,
            "batch_size": 8,
            "engine": "auto",
            "device": "cpu",
            "method": "snow",
            "hardware": {"cpu": "one", "cores": 2},
            "source": {"images_per_second": 8 / 0.038},
            "snow": {"1": {"images_per_second": 8 / 0.043}, "6": {"images_per_second": 8 / 0.068}},
            "hub": {"tasks": 6, "resident_bytes": 480_000_000, "bytes_a_task": 2_000_000},
            "service": service,
            **changes,
        }

    return make
