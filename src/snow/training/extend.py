"""Add classes or pictures to a trained task in closed form, from the statistics that it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snow.data import Pictures, SplitRecord
from snow.data.open import read_listing
from snow.data.pictures import inspect
from snow.data.rows import Opening
from snow.errors import MismatchError, SnowError
from snow.hub import Artifact, Hub
from snow.hub.coded_tensors import CodedTensors
from snow.inference.calibration import extend_familiarity
from snow.inference.familiarity import Familiarity
from snow.kinds import ClassKind
from snow.methods import Extended
from snow.methods.extended import Gate
from snow.training.familiarity_pass import pass_pictures
from snow.training.polish import Polish, polish

MEASURED = ("test", "per_class", "linear_probe")
"""Figures of a task that no longer hold once its classes have changed."""

SAMPLES = 2000
"""Points drawn from the statistics of the old classes to estimate what they lose."""


@dataclass(frozen=True)
class Extension:
    """A task with other classes.

    Attributes:
        artifact: the new version of the task.
        added: new class -> its pictures.
        corrected: class that was there -> pictures added to it.
        lost: estimated share of pictures of the old classes that are now taken for a new one.
        seconds: of passing the pictures through the source, and of the update.
        warnings: lines about pictures that were left out.
        polish: what fitting the classifier changed; None if that was not asked for.
        digests: SHA-256 of the pictures that were learned.
    """

    artifact: Artifact
    added: Mapping[str, int]
    corrected: Mapping[str, int]
    lost: float
    warnings: tuple[str, ...]
    polish: Polish | None = None
    digests: frozenset[bytes] = frozenset()


def extend(
    hub: Hub,
    name: str,
    pictures: str | Path | None = None,
    *,
    remove: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    train: bool = False,
    workers: int = 0,
) -> Extension:
    """Make a new version of a task with the classes of a folder of class folders; the hub is left as it is.

    Classes that the task does not have are added; pictures of those that it has update their statistics. The method
    itself is not trained, see `snow.methods.extended.Extended`; `train` fits the classifier in front of it.

    Args:
        pictures: a folder of class folders; None only removes and renames.
        remove: classes to leave out.
        rename: new names of classes by their old ones.
        train: fit the classifier to the pictures unless left-out ones speak against it, see `snow.training.polish`.
        workers: processes that load pictures.

    Raises:
        NotFoundError: there is no such task.
        MismatchError: the task keeps no statistics, or is not of kind class.
        SnowError: no picture can be read, a class is unknown, or fewer than two would be left.
    """
    artifact, rename = hub.task(name), rename or {}
    familiarity = _statistics(artifact)
    classes = list(artifact.classes)
    _require_present(name, classes, (*remove, *rename))
    loaded, labels, digests, warnings = _labelled(pictures)
    if train and not labels:
        raise SnowError("there is nothing to train on: give a folder of class folders")
    passed = pass_pictures(hub.source, loaded, workers)
    counts = {label: labels.count(label) for label in sorted(set(labels))}
    classes += [label for label in counts if label not in classes]
    numbers = torch.tensor([classes.index(label) for label in labels], dtype=torch.int64)
    present = [number for number, label in enumerate(classes) if label not in remove]
    seen = extend_familiarity(familiarity, passed.final, numbers, passed.appearance) if labels else familiarity
    updated = seen.selected(present)
    names = tuple(rename.get(classes[number], classes[number]) for number in present)
    _require_names(name, names)
    method = _with_classes(artifact, familiarity, updated, present)
    learnable = _with_labels(loaded, numbers, present) if train else None
    polished = polish(hub.source, method, updated, learnable) if learnable else None
    change = _describe(counts, artifact.classes, remove, rename)
    training = artifact.training | _split(artifact, digests)
    training["changes"] = [*artifact.training.get("changes", []), change]
    metrics = {key: value for key, value in artifact.metrics.items() if key not in MEASURED}
    metrics["learned_parameters"] = method.learned_parameters
    answering = replace(artifact, classes=names, method=method, labels=ClassKind(names), familiarity=updated)
    coded = None if artifact.coded is None else CodedTensors.of(method, hub.source, artifact.coded.bits)
    extended = replace(answering, training=training, metrics=metrics, coded=coded)
    added = {label: count for label, count in counts.items() if label not in artifact.classes}
    corrected = {label: count for label, count in counts.items() if label in artifact.classes}
    lost = _lost(familiarity, updated, len(present) - len(added))
    warnings += tuple(_learned_before(artifact, digests))
    return Extension(extended, added, corrected, lost, warnings, polished, frozenset(digests))


def _require_present(task: str, classes: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in classes:
            raise SnowError(f"task {task} has no class {name!r}: it has {', '.join(classes)}")


def _require_names(task: str, names: Sequence[str]) -> None:
    """Raises SnowError: there are fewer than two classes, or two of one name."""
    if len(names) < 2:
        raise SnowError(f"task {task} needs at least two classes")
    twice = [label for label in names if names.count(label) > 1]
    if twice:
        raise SnowError(f"task {task} would have two classes {twice[0]!r}: choose another name")


def _with_labels(loaded: Pictures, numbers: Tensor, present: Sequence[int]) -> Pictures:
    """Keep the pictures of the classes that stay, with their numbers among these."""
    place = {number: index for index, number in enumerate(present)}
    rows = [row for row, number in enumerate(numbers.tolist()) if number in place]
    labels = torch.tensor([place[int(numbers[row])] for row in rows], dtype=torch.int64)
    return Pictures([loaded.items[row] for row in rows], labels)


def _with_classes(artifact: Artifact, before: Familiarity, after: Familiarity, present: Sequence[int]) -> Extended:
    """Make the method of a task with other classes.

    Args:
        before, after: statistics of the classes that it had, and of those in `present`.
        present: numbers of the classes that stay, and of new ones behind those that there were.
    """
    method = artifact.method
    if isinstance(method, Extended):
        base, gate = method.base, Gate(method.before_weight, method.before_bias)
        learned = method.kept.tolist()
    else:
        base, gate, learned = method, gate_of(before), list(range(len(artifact.classes)))
    kept = [learned[number] for number in present if number < len(learned)]
    return Extended(base, kept, gate, gate_of(after)).to(next(method.parameters()).device).eval()


def gate_of(familiarity: Familiarity) -> Gate:
    """Compute linear discriminants of final features of unit length from statistics: weight (K, D), bias (K,)."""
    root = familiarity.root
    inverse = root.T @ root
    weight = familiarity.means @ inverse
    bias = -0.5 * (weight * familiarity.means).sum(1)
    full = weight @ familiarity.basis.float() * familiarity.gain
    return Gate(full, bias - full @ familiarity.centre)


def _statistics(artifact: Artifact) -> Familiarity:
    """Return the statistics of a task, one cluster for each class.

    Raises:
        MismatchError: it has none.
    """
    if not isinstance(artifact.labels, ClassKind):
        raise MismatchError(
            f"task {artifact.name} has labels of kind {artifact.labels.name}: only classes are extended"
        )
    familiarity = artifact.familiarity
    if familiarity is None or len(familiarity.counts) != len(artifact.classes):
        raise MismatchError(
            f"task {artifact.name} keeps no statistics of all its classes: train it again to extend it later"
        )
    return familiarity


def _learned_before(artifact: Artifact, digests: Sequence[bytes]) -> list[str]:
    """Warn, in at most one line, of pictures that the task has learned already."""
    recorded = artifact.training.get("split")
    count = 0 if recorded is None else sum(map(SplitRecord.from_dict(recorded).was_trained, digests))
    return [f"{count} of the {len(digests)} pictures were learned before, and count twice now"] if count else []


def _split(artifact: Artifact, digests: Sequence[bytes]) -> dict[str, Any]:
    """Record that a task has learned further pictures, so that measuring on them is not taken for a test."""
    recorded = artifact.training.get("split")
    return {} if recorded is None else {"split": SplitRecord.from_dict(recorded).with_trained(digests).to_dict()}


def _labelled(pictures: str | Path | None) -> tuple[Pictures, list[str], list[bytes], tuple[str, ...]]:
    """List the readable pictures of class folders, without their numbers, their labels and digests.

    A test part is left out.
    """
    if pictures is None:
        return Pictures([], torch.zeros(0, dtype=torch.int64)), [], [], ()
    listing = read_listing(pictures, "task", None, None, Opening(for_training=False), {})
    labelled = [row for row in listing.rows if row.classes[0] is not None]
    learnable = [row for row in labelled if row.split != "test"]
    warnings = list(listing.warnings)
    if len(learnable) < len(labelled):
        line = f"the {len(labelled) - len(learnable)} pictures of the test part of {listing.source} are left out"
        warnings.append(f"{line}: give its folder to learn them")
    looks = inspect([row.item for row in learnable])
    rows = [row for row, look in zip(learnable, looks, strict=True) if not look.fault]
    digests = [look.digest for look in looks if not look.fault]
    warnings += [f"skipped {look.fault}" for look in looks if look.fault]
    if not rows:
        raise SnowError(f"{listing.source}: there is no readable picture with a label")
    loaded = Pictures([row.item for row in rows], torch.zeros(len(rows), dtype=torch.int64))
    return loaded, [str(row.classes[0]) for row in rows], digests, tuple(warnings)


def _lost(before: Familiarity, after: Familiarity, old: int) -> float:
    """Estimate the share of pictures of old classes that new classes take: points drawn from the statistics."""
    if old >= len(after.counts):
        return 0.0
    generator = torch.Generator().manual_seed(0)
    covariance = before.scatter / before.counts.sum()
    factor = torch.linalg.cholesky(covariance + 1e-4 * torch.eye(len(covariance)))
    cluster = torch.randint(old, (SAMPLES,), generator=generator)
    z = after.means[cluster] + torch.randn(SAMPLES, len(factor), generator=generator) @ factor.T
    root = after.root
    nearest = torch.cdist(z @ root.T, after.means @ root.T).argmin(1)
    return float((nearest >= old).double().mean())


def _describe(
    counts: Mapping[str, int], classes: Sequence[str], remove: Sequence[str], rename: Mapping[str, str]
) -> str:
    parts = [f"{'more' if label in classes else 'class'} {label} ({count} pictures)" for label, count in counts.items()]
    parts += [f"removed {label}" for label in remove]
    parts += [f"renamed {old} to {new}" for old, new in rename.items()]
    return f"extended: {', '.join(parts)}"
