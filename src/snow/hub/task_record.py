"""The record of a task at the time it was added: digests of its files and tensors, and its logits on test patterns.

`snow hub verify` compares a task with its record. The file on disk is called `fingerprint.json`; the fingerprint of a
source is something else, a hash of its weights and preprocessing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from snow.errors import DamagedError, SnowError
from snow.hub.artifact import Artifact, files_of
from snow.methods import Method
from snow.source import Features, Source
from snow.store import read_json

RECORD_FILE = "fingerprint.json"
"""The record, in the folder of the task."""

KINDS = {"files": dict, "tensors": dict, "logits": list}
"""Content of the record: {FILE: digest}, {FILE: {TENSOR: digest}}, and one row of logits per test pattern."""

TOLERANCE = 1e-3
"""Allowed difference of logits, relative to the largest: machines and versions of torch round differently."""


@dataclass(frozen=True)
class Difference:
    """One difference between a task and its record.

    Attributes:
        why: one sentence for the user.
        file: the file that differs, if one does.
        tensor: the tensor of `file` that differs, if one does.
    """

    why: str
    file: str | None = None
    tensor: str | None = None


@dataclass(frozen=True)
class Verification:
    """The comparison of a task with its record.

    Attributes:
        recorded: whether the task has a record; tasks added by early versions have none.
        logits: largest absolute difference of the logits; None if they cannot be compared.
    """

    differences: tuple[Difference, ...]
    recorded: bool = True
    logits: float | None = None


class ReferencePictures:
    """Four test patterns and their features, computed once per source.

    The patterns are computed with integers only, so that they are identical on every machine.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._features: Features | None = None

    @staticmethod
    def draw(size: int) -> Tensor:
        """Draw a slope, stripes, a weave and a checkerboard, different per colour: (4, 3, size, size) uint8."""
        y, x = torch.arange(size).view(-1, 1), torch.arange(size).view(1, -1)
        channels = []
        for colour in range(3):
            slope = (y * (2 + colour) + x * (4 - colour)) * 255 // (6 * size)
            stripes = (x * (3 + 2 * colour) + y) * 16 % 256
            weave = (y ^ (x * (colour + 1))) * 7 % 256
            board = ((y * 8 // size + x * 8 // size + colour) % 3) * 100 + 20
            channels.append(torch.stack([slope, stripes, weave, board]))
        return torch.stack(channels, 1).to(torch.uint8)

    @torch.no_grad()
    def logits(self, method: Method) -> Tensor:
        """Compute the logits of a method on the patterns: (4, classes) float32 on the CPU."""
        device = next(self.source.buffers()).device
        available = frozenset() if self._features is None else self._features.maps.keys()
        if self._features is None or not method.taps <= available:
            pictures = self.draw(self.source.preprocessing.image_size).to(device)
            pictures = pictures.contiguous(memory_format=torch.channels_last)  # as in a hub
            self._features = self.source(pictures, method.taps | available)
        return method.to(device)(self._features).float().cpu()


def write_record(folder: Path, reference: ReferencePictures) -> None:
    """Write the record of the task in `folder`. If there is one already, check that the task still agrees with it.

    Raises:
        SnowError: the task does not fit the source, is damaged, or differs from its record.
    """
    artifact = Artifact.load(folder, reference.source)
    if (folder / RECORD_FILE).exists():
        if differences := verify_task(folder, reference).differences:
            raise DamagedError(f"task {artifact.name} has changed since it was added: {differences[0].why}")
        return
    files = files_of(folder)
    values = {
        "files": {file.name: _digest(file.read_bytes()) for file in files},
        "tensors": {file.name: _tensors(file) for file in files if file.suffix == ".safetensors"},
        "logits": [[float(f"{value:.9g}") for value in row] for row in reference.logits(artifact.method).tolist()],
    }
    (folder / RECORD_FILE).write_text(json.dumps(values, indent=1) + "\n", "utf-8")


def verify_task(folder: Path, reference: ReferencePictures, tolerance: float = TOLERANCE) -> Verification:
    """Compare every file, every tensor and the logits of a task with its record."""
    differences: list[Difference] = []
    record: dict[str, Any] | None = None
    logits: float | None = None
    try:
        record = _read_record(folder)
        if record:
            differences.extend(_changed_files(folder, record))
        now = reference.logits(Artifact.load(folder, reference.source).method)
        if record:
            logits, why = _compare_logits(now, record["logits"], tolerance)
            differences.extend([Difference(why)] if why else [])
    except SnowError as error:
        differences.append(Difference(str(error)))
    return Verification(tuple(differences), bool(record), logits)


def _read_record(folder: Path) -> dict[str, Any] | None:
    if not (folder / RECORD_FILE).exists():
        return None
    values = read_json(folder / RECORD_FILE)
    if not all(isinstance(values.get(key), kind) for key, kind in KINDS.items()):
        raise DamagedError(f"{folder / RECORD_FILE} is damaged")
    return values


def _changed_files(folder: Path, record: dict[str, Any]) -> Iterator[Difference]:
    present = {file.name: file for file in files_of(folder) if file.name != RECORD_FILE}
    for name in sorted(present.keys() | record["files"].keys()):
        if name not in present:
            yield Difference(f"{name} is missing", name)
        elif name not in record["files"]:
            yield Difference(f"{name} is new", name)
        elif _digest(present[name].read_bytes()) != record["files"][name]:
            tensors = list(_changed_tensors(present[name], record["tensors"].get(name)))
            yield from tensors or [Difference(f"{name} differs", name)]


def _changed_tensors(file: Path, before: object) -> Iterator[Difference]:
    """Compare the tensors of a file; yield nothing if they all agree."""
    if not isinstance(before, dict):
        return
    try:
        now = _tensors(file)
    except (SafetensorError, OSError) as error:
        yield Difference(f"{file.name} cannot be read: {error}", file.name)
        return
    for name in sorted(now.keys() | before.keys()):
        if now.get(name) != before.get(name):
            change = "is missing" if name not in now else "is new" if name not in before else "differs"
            yield Difference(f"tensor {name} of {file.name} {change}", file.name, name)


def _compare_logits(logits: Tensor, before: list[Any], tolerance: float) -> tuple[float | None, str | None]:
    """Return the largest absolute difference, and one sentence if it is too large."""
    try:
        expected = torch.tensor(before, dtype=torch.float32)
    except (TypeError, ValueError):
        expected = torch.empty(0)
    if expected.shape != logits.shape:
        return None, f"the recorded logits do not have {logits.shape[1]} classes"
    same = (logits == expected) | (logits.isnan() & expected.isnan())
    largest = torch.where(same, 0.0, (logits - expected).abs()).max().item()
    if largest <= tolerance * max(1.0, torch.where(expected.isfinite(), expected.abs(), 0.0).max().item()):
        return largest, None
    return largest, f"its logits differ by up to {largest:.3g}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _tensors(file: Path) -> dict[str, str]:
    """Hash the type, shape and values of each tensor, by name."""
    digests = {}
    for name, value in sorted(load_file(file).items()):
        header = f"{value.dtype}:{tuple(value.shape)}:".encode()
        digests[name] = hashlib.sha256(header + value.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
    return digests
