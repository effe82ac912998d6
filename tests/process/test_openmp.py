"""Threads of a command sleep early, unless the environment says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snow.process.startup import SPINS

PROGRAM = "from snow.process.startup import limit_openmp_spinning; limit_openmp_spinning(); import ctypes; "
MAPPED = Path("/proc/self/maps")


@pytest.fixture(scope="module")
def library() -> str:
    """The OpenMP library that torch has loaded here. A process that loads it alone need not import torch."""
    import torch  # noqa: F401

    lines = MAPPED.read_text("utf-8").splitlines() if MAPPED.exists() else []
    found = sorted({line.split(maxsplit=5)[5] for line in lines if "libgomp" in line})
    if not found:
        pytest.skip("torch has another OpenMP")
    return next((path for path in found if "torch" in path), found[0])


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, f"GOMP_SPINCOUNT = '{SPINS}'"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = '77'"),
        ({"OMP_WAIT_POLICY": "passive"}, "GOMP_SPINCOUNT = '0'"),
    ],
)
def test_openmp_reads_the_setting_when_it_starts(variables: dict[str, str], expected: str, library: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = {**inherited, **variables, "OMP_DISPLAY_ENV": "verbose"}
    program = f"{PROGRAM} ctypes.CDLL({library!r})"
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert expected in result.stderr
