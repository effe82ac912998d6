"""Quantized graphs of sources on disk: calibrating one takes 10 to 20 seconds, reading it a fraction of one."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from snow.errors import SnowError
from snow.store import atomic_file

log = logging.getLogger("snow.inference")

DIGEST_SIZE = hashlib.sha256().digest_size


class GraphStore:
    """Keeps graphs in a folder, each in a file that begins with a digest of its content.

    Args:
        folder: may be missing, or read-only; nothing is kept then.
        fingerprint: of the source.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint

    def load(self, taps: Sequence[str]) -> bytes | None:
        """Read the graph that gives these maps; None if there is none that is whole, of this source and versions."""
        try:
            content = self._path(taps).read_bytes()
        except OSError:
            return None
        digest, graph = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
        return graph if hashlib.sha256(graph).digest() == digest else None

    def save(self, taps: Sequence[str], graph: bytes) -> None:
        """Keep a graph, and remove those of other sources and versions."""
        path = self._path(taps)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in self._folder.glob("int8-*.onnx"):
                if old.name.split("-")[1] != path.name.split("-")[1]:
                    old.unlink(missing_ok=True)
            with atomic_file(path) as file:
                file.write_bytes(hashlib.sha256(graph).digest() + graph)
        except (OSError, SnowError) as error:
            log.info("the calibrated source cannot be kept, and is calibrated anew next time: %s", error)

    def _path(self, taps: Sequence[str]) -> Path:
        versions = [version(package) for package in ("torch", "onnx", "onnxruntime", "snow-cnn")]
        made_by = hashlib.sha256(json.dumps([self._fingerprint, versions]).encode()).hexdigest()[:16]
        maps = hashlib.sha256(json.dumps(list(taps)).encode()).hexdigest()[:8]
        return self._folder / f"int8-{made_by}-{maps}.onnx"
