"""Requests to a service that is measured; what they measure is used in `tests/cli/test_plan.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from snow.errors import SnowError
from snow.experiments.bench.requests import measure_requests


def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"does not start: error: .*nowhere is not a hub"):
        measure_requests(tmp_path / "nowhere", "auto", "cpu", {1: ["one"]}, (64, 64), 0.01, 1)
