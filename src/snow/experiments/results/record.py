"""Read and write results files, each with its provenance: command, date, versions and hardware."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from snow.errors import SnowError
from snow.hub.artifact import versions
from snow.store import atomic_file, read_json, write_json
from snow.training.recipe import current_fields


def provenance() -> dict[str, Any]:
    """Describe this run as JSON values: command, date, versions, hardware.

    Absolute paths in the command are cut to their last part.
    """
    program, *arguments = (Path(part).name if Path(part).is_absolute() else part for part in sys.argv)
    return {
        "command": shlex.join(["snow" if Path(program).name in ("snow", "__main__.py") else program, *arguments]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": versions(),
        "hardware": hardware(),
    }


def hardware() -> dict[str, Any]:
    """Describe this machine: processor, instruction sets, cores this process may use, memory in bytes, GPU or None."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _processor(),
        "instructions": _instructions(),
        "cores": cores,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _instructions() -> list[str]:
    """List the vector instructions that torch uses, and those that decide its speed in int8 and bf16."""
    checks = {"VNNI": "_is_vnni_supported", "BF16": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
    supported = [name for name, check in checks.items() if getattr(torch.cpu, check, bool)()]
    return [torch.backends.cpu.get_cpu_capability(), *supported]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def open_results(out: Path | None, identity: Mapping[str, Any], empty: Mapping[str, Any]) -> dict[str, Any]:
    """Read the results in `out` to continue them, or start new ones.

    Args:
        identity: values that two runs must share for their results to stand in one file.
        empty: keys and initial values of the results themselves.

    Raises:
        SnowError: `out` cannot be read, or holds results of another kind or with another identity.
    """
    if out is None or not out.exists():
        return {**provenance(), **identity, **empty}
    results = read_json(out)
    differing = [key for key, value in identity.items() if not same_setting(key, results.get(key), value)]
    differing += [key for key in empty if key not in results]
    if differing:
        raise SnowError(f"{out} holds other results: {', '.join(differing)} differ; choose another file")
    return results


UNRECORDED = {"precision": "32"}
"""Values of settings that results of version 0.2.0 do not hold: there was no other."""


def same_setting(key: str, recorded: Any, value: Any) -> bool:
    """Compare a recorded setting with that of this run; a recipe may be recorded as version 0.1.0 wrote it."""
    if key == "recipe" and isinstance(recorded, Mapping):
        recorded = current_fields(recorded)
    if recorded is None:
        recorded = UNRECORDED.get(key)
    return recorded == value


def save_results(out: Path | None, results: Mapping[str, Any]) -> None:
    """Replace `out` by these results, atomically. Do nothing if `out` is None.

    Raises:
        SnowError: `out` cannot be written.
    """
    if out is None:
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as new:
            write_json(new, results)
    except OSError as error:
        raise SnowError(f"{out} cannot be written: {error.strerror or error}") from error
