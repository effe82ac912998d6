"""Rank sources: one pass of each over a sample of pictures, then classifiers in closed form on what it gave."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snow.data import Pictures, Task
from snow.data.transforms import eval_transform
from snow.delta import SnowConfig, find_start
from snow.delta.pass_rows import FINAL_BLOCK, PassRows
from snow.errors import SnowError
from snow.experiments.results.record import open_results, save_results
from snow.inference.features import observe
from snow.inference.fused import fuse_for_inference
from snow.methods import METHODS
from snow.methods.calibration_rows import CalibrationRows
from snow.methods.snow import Snow
from snow.process.memory import PeakMemory
from snow.source import Features, Source
from snow.training.loader import DeviceLoader, sequential_batches

AUTO = "auto"
"""In the place of sizes: the source's own, and about three quarters and half of it."""

BATCH = 16
"""Pictures of a pass; memory is that of such passes."""

SECONDS = 1.0
"""Least time for which the speed of a source is measured, for one picture and for a batch."""

Open = Callable[[str, int | None], Source]
"""Opens a source by name and side of the picture in pixels; None: its own."""


def open_named(text: str, size: int | None, pretrained: bool = True) -> Source:
    """Open NAME as `Source.open` does, or NAME=FILE with the weights of a file; each name stands for other weights.

    Raises:
        SnowError: it cannot be opened.
    """
    name, _, file = text.partition("=")
    return Source.open(name, pretrained, file or None, size)


@dataclass(frozen=True)
class Ranking:
    """What is ranked, and by which pictures.

    Attributes:
        pictures: labelled pictures; of those, a sample is looked at.
        task: its classes.
        sources: names for `open_named`.
        sizes: sides of the picture in pixels to try; None: each source's own. Or `AUTO`.
        sample: upper bound of n.
        seed: of the sample and of the folds.

    Raises:
        SnowError: no source is named, labels are not classes, or too few pictures have one.
    """

    pictures: Pictures
    task: Task
    sources: tuple[str, ...]
    sizes: tuple[int | None, ...] | str = (None,)
    sample: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sources:
            raise SnowError("no source is named: name some with --sources")
        if self.task.kind.name != "class":
            raise SnowError(
                f"sources are ranked for classes: the labels of {self.task.name} are of kind {self.task.kind.name}"
            )
        counts = torch.bincount(self.labels[self.labels >= 0], minlength=1)
        if int((counts > 1).sum()) < 2:
            raise SnowError("sources are ranked by pictures that are left out: two classes need two pictures each")

    @property
    def labels(self) -> Tensor:
        """(all pictures,), -1 where there is none."""
        return self.pictures.labels[:, 0].long()

    def drawn(self) -> list[int]:
        """Draw the n pictures: one of each class in turn, in random order."""
        generator = torch.Generator().manual_seed(self.seed)
        turns: list[tuple[int, int]] = []
        for value in self.labels[self.labels >= 0].unique().tolist():
            members = (self.labels == value).nonzero().flatten()
            members = members[torch.randperm(len(members), generator=generator)].tolist()
            if len(members) > 1:  # a single picture cannot be left out
                turns += enumerate(members)
        return sorted(index for _, index in sorted(turns)[: self.sample])

    def identity(self) -> dict[str, Any]:
        """Describe what results must share to stand in one file, as JSON values."""
        names = [Path(item).name if isinstance(item, str | Path) else "" for item in self.pictures.items]
        labels = json.dumps([self.task.to_dict(), names, self.labels.tolist()])
        digest = f"sha256:{hashlib.sha256(labels.encode()).hexdigest()}"
        return {"data": digest, "sample": self.sample, "seed": self.seed}


def rank_sources(
    ranking: Ranking,
    out: Path | None = None,
    open_source: Open = open_named,
    announce: Callable[[str], object] = lambda _line: None,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Measure each source at each size, and return JSON values: `{"sources": {"NAME@SIZE": {...}}}`.

    What a source fails with is recorded in the place of its figures, as `failed`.

    Args:
        out: results file, saved after every source; a second call continues it, and may name other sources.
        open_source: opens a source.
        announce: is told what is measured next.
        seconds: least time for which speeds are measured.

    Raises:
        SnowError: `out` holds other results, or every source failed.
    """
    results = open_results(out, ranking.identity(), {"sources": {}})
    known, wanted = results["sources"], dict[str, dict[str, Any]]()
    for name in ranking.sources:
        sizes: list[int | None] = [None] if isinstance(ranking.sizes, str) else list(ranking.sizes)
        while sizes:
            size = sizes.pop(0)
            key = _key(known, name, size)
            if key is None:
                entry = _measured(ranking, name, size, open_source, announce, seconds)
                key = f"{name}@{entry.get('image_size', size or 'own')}"
                if "failed" not in entry:
                    known[key] = entry
                    save_results(out, results)
                wanted[key] = entry
            else:
                wanted[key] = known[key]
            if ranking.sizes == AUTO and size is None and "failed" not in wanted[key]:
                sizes = [*smaller_sizes(wanted[key]["image_size"])]
    if all("failed" in entry for entry in wanted.values()):
        raise SnowError("; ".join(f"{entry['source']}: {entry['failed']}" for entry in wanted.values()))
    return {**results, "sources": wanted}


def smaller_sizes(size: int) -> list[int]:
    """List about three quarters and half of a side in pixels, in whole strides of 32."""
    return sorted({max(32, 32 * round(size * part / 32)) for part in (0.5, 0.75)} - {size}, reverse=True)


def _key(known: Mapping[str, Mapping[str, Any]], name: str, size: int | None) -> str | None:
    """Find the entry of a source at a size, or at its own."""
    for key, entry in known.items():
        if entry["source"] == name and (entry["own_size"] if size is None else entry["image_size"] == size):
            return key
    return None


def _measured(
    ranking: Ranking,
    name: str,
    size: int | None,
    open_source: Open,
    announce: Callable[[str], object],
    seconds: float,
) -> dict[str, Any]:
    memory = PeakMemory(torch.device("cpu"))
    try:
        source = open_source(name, size)
    except SnowError as error:
        return {"source": name, "failed": str(error)}
    fused = fuse_for_inference(source)
    side = source.preprocessing.image_size
    announce(f"{name} at {side} px …")
    entry: dict[str, Any] = {"source": name, "image_size": side, "own_size": size is None}
    entry |= {
        "parameters": source.learned_parameters,
        "features": source.num_features,
        "fingerprint": source.fingerprint,
    }
    entry |= {"kind": "tokens" if source.gives_tokens else "maps", "weights": source.weights}
    memory.restart()
    entry |= _speed(fused, seconds)
    entry["memory_bytes"] = memory.bytes
    return entry | _accuracy(ranking, source, fused)


def _speed(source: Source, seconds: float) -> dict[str, float]:
    """Time passes of one picture and of a batch, the fastest of each: other programs can only slow them down."""
    size = source.preprocessing.image_size
    pictures = torch.zeros(BATCH, 3, size, size, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    fastest = {}
    for count in (1, BATCH):
        times, end = list[float](), time.perf_counter() + seconds
        while len(times) < 2 or time.perf_counter() < end:
            started = time.perf_counter()
            source(pictures[:count])
            times.append(time.perf_counter() - started)
        fastest[count] = min(times)
    return {"seconds_per_picture": fastest[1], "images_per_second": BATCH / fastest[BATCH]}


def _accuracy(ranking: Ranking, source: Source, fused: Source) -> dict[str, Any]:
    """Judge a linear classifier on the final features, and the start of method snow, by left-out pictures."""
    classes = len(ranking.task.classes)
    method = METHODS["snow"].build(source, classes)
    assert isinstance(method, Snow)
    indices = ranking.drawn()
    pictures = ranking.pictures.with_transform(eval_transform(source.preprocessing))
    labels = ranking.labels

    def batches() -> Iterator[tuple[Features, Tensor]]:
        keys = sequential_batches(indices, BATCH)
        for chunk, (images, _) in zip(keys, DeviceLoader(pictures, keys, 0, torch.device("cpu")), strict=True):
            yield observe(fused, [method], images), labels[chunk]

    taps = [level.tap for level in method.plan.levels]
    rows = CalibrationRows.of(batches(), taps, 1, with_answers=source.num_classes > 1).pass_rows(classes)
    budget = max(round(SnowConfig().budget * source.learned_parameters), (source.num_features + 1) * classes)
    probe = PassRows({FINAL_BLOCK: rows.blocks[FINAL_BLOCK]}, {FINAL_BLOCK: rows.parts[FINAL_BLOCK]}, *rows[2:])
    start = find_start(rows, budget, seed=ranking.seed).evidence
    linear = find_start(probe, 0, seed=ranking.seed).evidence
    found = {"pictures": start["pictures"], "left_out": start["left_out"]}
    for prefix, evidence in (("", start), ("probe_", linear)):
        found |= {f"{prefix}{figure}": evidence["chosen"][figure] for figure in ("accuracy", "loss")}
    return found


def limited(entries: Mapping[str, Mapping[str, Any]], within: float | None, memory: int | None) -> Sequence[str]:
    """List the sources that keep to the limits, the best first: by accuracy on left-out pictures, then by log-loss.

    Args:
        within: seconds for one picture; None: any.
        memory: bytes; None: any.
    """
    kept = [
        key
        for key, entry in entries.items()
        if "failed" not in entry
        and (within is None or entry["seconds_per_picture"] <= within)
        and (memory is None or entry["memory_bytes"] <= memory)
    ]
    return sorted(kept, key=lambda key: (-entries[key]["accuracy"], entries[key]["loss"]))
