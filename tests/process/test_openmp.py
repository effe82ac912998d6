"""Threads of a command sleep early, unless the environment says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from snow.process.startup import SPINS

PROGRAM = "from snow.process.startup import wait_briefly; wait_briefly(); import torch"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, f"GOMP_SPINCOUNT = '{SPINS}'"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = '77'"),
        ({"OMP_WAIT_POLICY": "passive"}, "GOMP_SPINCOUNT = '0'"),
    ],
)
def test_openmp_is_told_before_it_starts(given: dict[str, str], told: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = {**inherited, **given, "OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch has another OpenMP")
    assert told in done.stderr
