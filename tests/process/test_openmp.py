"""Threads of a command sleep early, unless the environment says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from snow.process.startup import SPINS

PROGRAM = "from snow.process.startup import limit_openmp_spinning; limit_openmp_spinning(); import torch"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, f"GOMP_SPINCOUNT = '{SPINS}'"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = '77'"),
        ({"OMP_WAIT_POLICY": "passive"}, "GOMP_SPINCOUNT = '0'"),
    ],
)
def test_openmp_reads_the_setting_when_it_starts(variables: dict[str, str], expected: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = {**inherited, **variables, "OMP_DISPLAY_ENV": "verbose"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    if "GOMP_SPINCOUNT" not in result.stderr:
        pytest.skip("torch has another OpenMP")
    assert expected in result.stderr
