"""Devices by name: cpu, cuda, cuda:1, mps, or auto for the fastest available."""

from __future__ import annotations

import re

import torch

from snow.errors import SnowError

NAMES = re.compile(r"auto|cpu|cuda(?::\d{1,3})?|mps")
"""Names of devices."""


def check_device_name(name: str, what: str = "device") -> str:
    """Return a name if it can name a device, on whatever machine. Raises SnowError otherwise."""
    if not NAMES.fullmatch(name):
        raise SnowError(f"{what} must be one of auto, cpu, cuda, cuda:1 (or another number), mps, not {name!r}")
    return name


def find_device(name: str) -> torch.device:
    """Look up a device of this machine.

    Raises:
        SnowError: the name is none, or this machine has no such device.
    """
    check_device_name(name)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if gpus else "mps" if mps else "cpu")
    device = torch.device(name)
    is_there = {"cpu": True, "cuda": (device.index or 0) < gpus, "mps": mps}[device.type]
    if not is_there:
        present = ["cpu", *(f"cuda:{number}" for number in range(gpus)), *(["mps"] if mps else [])]
        raise SnowError(f"this machine has no device {name}, or torch cannot use it: there is {', '.join(present)}")
    return device
