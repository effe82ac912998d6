"""What a tiny hub is filled with, what its folder then holds, and how a full disk says so."""

from __future__ import annotations

import errno
from pathlib import Path

import torch
from safetensors import SafetensorError

from snow.hub import Artifact
from snow.methods import METHODS
from snow.source import Source

CLASSES = ("a", "b", "c")
FULL = [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")]


def task(source: Source, name: str, seed: int = 0, method: str = "fo") -> Artifact:
    """One whose answers depend on `seed`."""
    torch.manual_seed(seed)
    learned = METHODS[method].build(source, len(CLASSES)).export_form()
    with torch.no_grad():
        for value in learned.parameters():
            value.add_(torch.randn_like(value))
    return Artifact(name, CLASSES, learned, source.description())


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
