"""A learned task as a folder: `config.json`, `model.safetensors`, `metrics.json`. Only what was learned is in it.

Where the choice of channels was recorded in training, `choice.safetensors` holds it; a task answers without that file.
"""

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


def begin(out: Path | None, settings: Mapping[str, Any], empty: Mapping[str, Any]) -> dict[str, Any]:
    """The results that `out` holds, or new ones: where they come from, the settings, and `empty` for what is to come.

    Raises:
        SnowError: `out` cannot be read, or holds results of another kind or with other settings.
    """
    if out is None or not out.exists():
        return {**provenance(), **settings, **empty}
    results = read_json(out)
    differing = [key for key, value in settings.items() if results.get(key) != value]
    differing += [key for key in empty if key not in results]
    if differing:
        raise SnowError(f"{out} holds other results: {', '.join(differing)} differ; choose another file")
    return results


def keep(out: Path | None, results: Mapping[str, Any]) -> None:
    """Writes the results in the place of those before, whole or not at all.

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
