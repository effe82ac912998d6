"""Training speed and memory: methods side by side, the limits above them, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from snow.data import Pictures
from snow.errors import SnowError
from snow.experiments.bench import rows
from snow.experiments.bench.rows import Sample
from snow.experiments.bench.setup import Conditions
from snow.experiments.results.record import begin, keep
from snow.experiments.results.table import Spread
from snow.methods import METHODS
from snow.methods.variant import Variant
from snow.process.subprocesses import interleaved
from snow.training.recipe import CACHE_DTYPE

BASELINE = "ft"
"""The method that the others are measured against."""

PHASES = ("decode", "augment", "source", "cache", "gather", "forward", "backward", "optimizer")

CACHED = "+cache"
"""Behind the name of a method that learns from kept features."""

Row = Callable[[], Sample]


@dataclass(frozen=True)
class TrainingBench:
    """What is measured.

    Attributes:
        pictures: files to load, without a transform.
        rounds: times that each row is measured, in turn with the others.
        cached: measure methods that use the source on kept features as well, as METHOD`CACHED`.
    """

    conditions: Conditions
    methods: tuple[Variant, ...]
    pictures: Pictures
    rounds: int = 3
    cached: bool = False

    def __post_init__(self) -> None:
        if not self.methods:
            raise SnowError("name at least one method to measure")
        if self.rounds < 1 or self.conditions.steps < 1:
            raise SnowError("a measurement takes at least one round and one step")

    def calls(self) -> dict[str, dict[str, Row]]:
        """The rows by kind and name. The limits are those of method snow, or of the first that uses the source."""
        users = [one for one in self.methods if METHODS[one.method].uses_source]
        first = next((one for one in users if one.method == "snow"), users[0] if users else None)
        kinds: dict[str, dict[str, Row]] = {"methods": {}, "limits": {}}
        for one in self.methods:
            kinds["methods"][one.label] = partial(rows.method, self.conditions, one.build, self.pictures)
        for one in users if self.cached else ():
            kinds["methods"][f"{one.label}{CACHED}"] = partial(rows.cached, self.conditions, one.build)
        if first is not None:
            kinds["limits"]["source"] = partial(rows.source_alone, self.conditions)
            kinds["limits"]["delta"] = partial(rows.delta_alone, self.conditions, first.build)
        kinds["limits"]["decoding"] = partial(rows.decoding_alone, self.conditions, self.pictures)
        return kinds


def measure_training(
    work: TrainingBench, out: Path | None = None, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Measures all rows, round by round, and returns the results as JSON values.

    Args:
        out: file for the results so far, written after each round.
        tell: hears of each row before it is measured.

    Raises:
        SnowError: `out` holds other results; as `Source.open` and `EpochSampler`; a process that ran out of memory.
    """
    conditions = work.conditions
    settings = {
        "source": conditions.source,
        "image_size": conditions.image_size,
        "batch_size": conditions.recipe.batch_size,
        "classes": conditions.classes,
        "precision": conditions.recipe.precision,
        "accelerator": conditions.runtime.accelerator,
        "steps": conditions.steps,
        "cached": (conditions.recipe.cache_dtype or CACHE_DTYPE) if work.cached else None,
        "pictures": len(work.pictures),
    }
    results = begin(out, settings, {"rounds": 0, "methods": {}, "limits": {}})
    kinds = work.calls()
    named = {f"{kind}/{name}": call for kind, calls in kinds.items() for name, call in calls.items()}
    for number, found in enumerate(interleaved(named, work.rounds, lambda line: tell(_plain(line))), start=1):
        results["rounds"] = number
        for kind, calls in kinds.items():
            results[kind] = {name: _summary(found[f"{kind}/{name}"]) for name in calls}
        _relate(results)
        keep(out, results)
    return results


def _plain(line: str) -> str:
    return line.replace("methods/", "").replace("limits/", "limit: ")


def _summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Medians over rounds, with their range."""
    entry: dict[str, Any] = {}
    costs = [sample.cost for sample in samples if sample.cost is not None]
    speeds = [sample.pipeline for sample in samples if sample.pipeline is not None]
    if costs:
        speed = Spread.of(cost.images_per_second for cost in costs)
        entry |= {"images_per_second": speed.median, "images_per_second_range": speed.range}
        entry["peak_memory_bytes"] = int(Spread.of(cost.peak_memory_bytes for cost in costs).median)
    if speeds:
        speed = Spread.of(speeds)
        entry |= {"pipeline_images_per_second": speed.median, "pipeline_images_per_second_range": speed.range}
    if samples[0].kept_bytes is not None:
        entry["kept_bytes_per_image"] = samples[0].kept_bytes
        entry["filled_images_per_second"] = Spread.of(sample.filled or 0.0 for sample in samples).median
    names = [name for name in PHASES if name in samples[0].phases]
    if names:
        spent = {name: Spread.of(sample.phases[name] for sample in samples).median for name in names}
        entry["milliseconds_per_image"] = {name: 1e3 * seconds for name, seconds in spent.items()}
    return entry


def _relate(results: Mapping[str, Any]) -> None:
    """Adds to each method its ratios to fine-tuning, and to the source alone."""
    base, source = results["methods"].get(BASELINE), results["limits"].get("source")
    for entry in results["methods"].values():
        if base is not None:
            entry["over_ft"] = entry["images_per_second"] / base["images_per_second"]
            files = entry.get("pipeline_images_per_second", entry["images_per_second"])  # a cache needs no files
            entry["pipeline_over_ft"] = files / base["pipeline_images_per_second"]
            entry["memory_over_ft"] = entry["peak_memory_bytes"] / max(1, base["peak_memory_bytes"])
        if source is not None:
            entry["over_source"] = entry["images_per_second"] / source["images_per_second"]
