"""Where a figure comes from: command, versions, machine."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from snow.artifact import versions


def provenance() -> dict[str, Any]:
    """What a results file says of how it was made, as JSON values. Of absolute paths it keeps the last part."""
    program, *arguments = (Path(part).name if Path(part).is_absolute() else part for part in sys.argv)
    return {
        "command": shlex.join(["snow" if Path(program).name in ("snow", "__main__.py") else program, *arguments]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": versions(),
        "hardware": hardware(),
    }


def hardware() -> dict[str, Any]:
    """Processor and its instructions, cores that this process may use, memory in bytes, and the GPU if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _processor(),
        "instructions": _instructions(),
        "cores": cores,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _instructions() -> list[str]:
    """What torch makes of the processor, and what decides how fast it is in 8 and in 16 bits."""
    probes = {"VNNI": "_is_vnni_supported", "BF16": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
    found = [name for name, probe in probes.items() if getattr(torch.cpu, probe, bool)()]
    return [torch.backends.cpu.get_cpu_capability(), *found]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
