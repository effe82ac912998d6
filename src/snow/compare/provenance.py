"""Where a figure comes from: command, versions, machine; and the file that says so."""

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

from snow.artifact import versions, write_json
from snow.errors import SnowError


def provenance() -> dict[str, Any]:
    """What a results file says of how it was made, as JSON values. Of absolute paths it keeps the last part."""
    return {
        "command": shlex.join(Path(part).name if Path(part).is_absolute() else part for part in sys.argv),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": versions(),
        "hardware": hardware(),
    }


def write_results(path: Path | None, results: Mapping[str, Any]) -> None:
    """Writes a results file whole or not at all; does nothing without a path.

    Raises:
        SnowError: it cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        write_json(partial, results)
        partial.replace(path)
    except OSError as error:
        raise SnowError(f"{path} cannot be written: {error.strerror or error}") from error


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in bytes, and the GPU if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _processor(),
        "cores": cores,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
