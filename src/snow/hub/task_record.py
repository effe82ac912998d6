"""What a task was when it was added: digests of its files and tensors, and its answers to a few pictures."""

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

from snow.errors import SnowError
from snow.hub.artifact import Artifact, files_of
from snow.methods import Method
from snow.source import Features, Source
from snow.store import read_json

RECORD_FILE = "fingerprint.json"
"""Lies beside the files that it speaks of."""

KINDS = {"files": dict, "tensors": dict, "logits": list}
"""What it holds: {FILE: digest}, {FILE: {TENSOR: digest}}, and a row of logits for each picture."""

TOLERANCE = 1e-3
"""How far logits may be from those of another machine or another version of torch, beside the largest of them."""


@dataclass(frozen=True)
class Difference:
    """One way in which a task is not what it was, and where."""

    why: str
    file: str | None = None
    tensor: str | None = None


@dataclass(frozen=True)
class Verification:
    """What became of a task.

    Attributes:
        recorded: whether it is known what the task was; those that an earlier version has added are not.
        logits: the largest difference of its answers; None where they cannot be compared.
    """

    differences: tuple[Difference, ...]
    recorded: bool = True
    logits: float | None = None


class ReferencePictures:
    """A few pictures, drawn by whole numbers alone and so the same everywhere, and what a source makes of them."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._features: Features | None = None

    @staticmethod
    def draw(size: int) -> Tensor:
        """(4, 3, size, size), uint8: slopes, stripes, a weave and a coarse board, other ones in each colour."""
        y, x = torch.arange(size).view(-1, 1), torch.arange(size).view(1, -1)
        drawn = []
        for colour in range(3):
            slope = (y * (2 + colour) + x * (4 - colour)) * 255 // (6 * size)
            stripes = (x * (3 + 2 * colour) + y) * 16 % 256
            weave = (y ^ (x * (colour + 1))) * 7 % 256
            board = ((y * 8 // size + x * 8 // size + colour) % 3) * 100 + 20
            drawn.append(torch.stack([slope, stripes, weave, board]))
        return torch.stack(drawn, 1).to(torch.uint8)

    @torch.no_grad()
    def logits(self, method: Method) -> Tensor:
        """(4, classes), float32."""
        device = next(self.source.buffers()).device
        seen = frozenset() if self._features is None else self._features.maps.keys()
        if self._features is None or not method.taps <= seen:
            pictures = self.draw(self.source.preprocessing.image_size).to(device)
            pictures = pictures.contiguous(memory_format=torch.channels_last)  # as a hub asks
            self._features = self.source(pictures, method.taps | seen)
        return method.to(device)(self._features).float().cpu()


def write_record(folder: Path, reference: ReferencePictures) -> None:
    """Writes down what the task in `folder` is; where that was done before, makes sure that it is so still.

    Raises:
        SnowError: it does not fit the source, is damaged, or is not what was recorded.
    """
    artifact = Artifact.load(folder, reference.source)
    if (folder / RECORD_FILE).exists():
        found = verify_task(folder, reference)
        if found.differences:
            why = found.differences[0].why
            raise SnowError(f"task {artifact.name} is not what it was when it was added: {why}")
        return
    files = files_of(folder)
    values = {
        "files": {file.name: _digest(file.read_bytes()) for file in files},
        "tensors": {file.name: _tensors(file) for file in files if file.suffix == ".safetensors"},
        "logits": [[float(f"{value:.9g}") for value in row] for row in reference.logits(artifact.method).tolist()],
    }
    (folder / RECORD_FILE).write_text(json.dumps(values, indent=1) + "\n", "utf-8")


def verify_task(folder: Path, reference: ReferencePictures, tolerance: float = TOLERANCE) -> Verification:
    """Looks at every file and tensor, and asks the task about the pictures again."""
    differences: list[Difference] = []
    recorded: dict[str, Any] | None = None
    logits: float | None = None
    try:
        recorded = _recorded(folder)
        if recorded:
            differences.extend(_changed(folder, recorded))
        found = reference.logits(Artifact.load(folder, reference.source).method)
        if recorded:
            logits, why = _compared(found, recorded["logits"], tolerance)
            differences.extend([Difference(why)] if why else [])
    except SnowError as error:
        differences.append(Difference(str(error)))
    return Verification(tuple(differences), bool(recorded), logits)


def _recorded(folder: Path) -> dict[str, Any] | None:
    if not (folder / RECORD_FILE).exists():
        return None
    values = read_json(folder / RECORD_FILE)
    if not all(
        isinstance(values.get(key), kind) for key, kind in (("files", dict), ("tensors", dict), ("logits", list))
    ):
        raise SnowError(f"{folder / RECORD_FILE} is damaged")
    return values


def _changed(folder: Path, recorded: dict[str, Any]) -> Iterator[Difference]:
    there = {file.name: file for file in files_of(folder) if file.name != RECORD_FILE}
    for name in sorted(there.keys() | recorded["files"].keys()):
        if name not in there:
            yield Difference(f"{name} is missing", name)
        elif name not in recorded["files"]:
            yield Difference(f"{name} was not there", name)
        elif _digest(there[name].read_bytes()) != recorded["files"][name]:
            tensors = list(_changed_tensors(there[name], recorded["tensors"].get(name)))
            yield from tensors or [Difference(f"{name} differs", name)]


def _changed_tensors(file: Path, before: object) -> Iterator[Difference]:
    """None if the tensors are not what differs."""
    if not isinstance(before, dict):
        return
    try:
        now = _tensors(file)
    except (SafetensorError, OSError) as error:
        yield Difference(f"{file.name} cannot be read: {error}", file.name)
        return
    for name in sorted(now.keys() | before.keys()):
        if now.get(name) != before.get(name):
            what = "is missing" if name not in now else "was not there" if name not in before else "differs"
            yield Difference(f"tensor {name} of {file.name} {what}", file.name, name)


def _compared(found: Tensor, before: list[Any], tolerance: float) -> tuple[float | None, str | None]:
    """The largest difference, and what is wrong with it."""
    try:
        expected = torch.tensor(before, dtype=torch.float32)
    except (TypeError, ValueError):
        expected = torch.empty(0)
    if expected.shape != found.shape:
        return None, f"the recorded logits are not of {found.shape[1]} classes"
    same = (found == expected) | (found.isnan() & expected.isnan())
    largest = torch.where(same, 0.0, (found - expected).abs()).max().item()
    if largest <= tolerance * max(1.0, torch.where(expected.isfinite(), expected.abs(), 0.0).max().item()):
        return largest, None
    return largest, f"its logits differ by up to {largest:.3g}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _tensors(file: Path) -> dict[str, str]:
    """A digest of each tensor, its type and its shape, by name."""
    digests = {}
    for name, value in sorted(load_file(file).items()):
        described = f"{value.dtype}:{tuple(value.shape)}:".encode()
        digests[name] = hashlib.sha256(described + value.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[
            :16
        ]
    return digests
