"""Verify a task: compare its files, its tensors and its logits on test patterns with its record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from snow.errors import DamagedError, SnowError
from snow.hub.artifact import Artifact
from snow.hub.blueprint import Blueprints
from snow.hub.task_files import RECORD_FILE, digest_of
from snow.hub.task_record import TOLERANCE, read_record, recorded_files, write_values
from snow.methods import Method
from snow.source import Features, Source
from snow.store import Store


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
        self.source, self.blueprints = source, Blueprints(source)
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
        SnowError: the task does not fit the source, is damaged, gives NaN, or differs from its record.
    """
    artifact = Artifact.load(folder, reference.source, blueprints=reference.blueprints)
    if (folder / RECORD_FILE).exists():
        if differences := verify_task(folder, reference).differences:
            raise DamagedError(f"task {artifact.name} has changed since it was added: {differences[0].why}")
        return
    logits = _reference_logits(artifact, reference)
    files = recorded_files(folder)
    values = {
        "files": {name: digest_of(path) for name, path in files.items()},
        "tensors": {name: _tensors(path) for name, path in files.items() if path.suffix == ".safetensors"},
        "logits": [[float(f"{value:.9g}") for value in row] for row in logits.tolist()],
    }
    write_values(folder, values)


def verify_task(folder: Path, reference: ReferencePictures, tolerance: float = TOLERANCE) -> Verification:
    """Compare every file, every tensor and the logits of a task with its record."""
    differences: list[Difference] = []
    record: dict[str, Any] | None = None
    logits: float | None = None
    try:
        record = read_record(folder)
        if record:
            differences.extend(_changed_files(folder, record))
        now = _reference_logits(Artifact.load(folder, reference.source, blueprints=reference.blueprints), reference)
        if record:
            logits, why = _compare_logits(now, record["logits"], tolerance)
            differences.extend([Difference(why)] if why else [])
    except SnowError as error:
        differences.append(Difference(str(error)))
    return Verification(tuple(differences), bool(record), logits)


def verify_tasks(
    store: Store, names: Iterable[str], source: Source, tolerance: float = TOLERANCE
) -> dict[str, Verification]:
    """Compare tasks with their records; a task that cannot be read differs by that."""
    reference, verdicts = ReferencePictures(source), {}
    for name in names:
        try:
            verdicts[name] = store.read(name, lambda folder: verify_task(folder, reference, tolerance))
        except SnowError as error:
            verdicts[name] = Verification((Difference(str(error)),), recorded=False)
    return verdicts


def _reference_logits(artifact: Artifact, reference: ReferencePictures) -> Tensor:
    """Compute the logits of a task on the test patterns: (4, classes).

    Raises:
        SnowError: the task fails, or gives NaN.
    """
    try:
        logits = reference.logits(artifact.method)
    except SnowError:
        raise
    except Exception as error:  # a network that does not fit its source can fail in any way
        raise DamagedError(f"task {artifact.name} is damaged: it cannot answer: {error}") from error
    if not logits.isfinite().all():
        raise DamagedError(f"task {artifact.name} is damaged: it gives NaN")
    return logits


def _changed_files(folder: Path, record: dict[str, Any]) -> Iterator[Difference]:
    present = recorded_files(folder)
    for name in sorted(present.keys() | record["files"].keys()):
        if name not in present:
            yield Difference(f"{name} is missing", name)
        elif name not in record["files"]:
            yield Difference(f"{name} is new", name)
        elif digest_of(present[name]) != record["files"][name]:
            tensors = list(_changed_tensors(present[name], record["tensors"].get(name)))
            yield from tensors or [Difference(f"{name} differs", name)]


def _changed_tensors(file: Path, before: object) -> Iterator[Difference]:
    """Compare the tensors of a file; yield nothing if they all agree."""
    if not isinstance(before, dict):
        return
    try:
        now = _tensors(file)
    except (SafetensorError, OSError, ValueError) as error:
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


def _tensors(file: Path) -> dict[str, str]:
    """Hash the type, shape and values of each tensor, by name."""
    digests = {}
    for name, value in sorted(load_file(file).items()):
        header = f"{value.dtype}:{tuple(value.shape)}:".encode()
        digests[name] = hashlib.sha256(header + value.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
    return digests
