"""Benchmark training: speed and memory of each method, their upper limits, and where the time goes."""

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
from snow.experiments.results.record import open_results, save_results
from snow.experiments.results.table import Spread
from snow.experiments.step_cost import BenchConditions
from snow.methods import METHODS
from snow.methods.variant import Variant
from snow.process.subprocesses import interleaved
from snow.training.recipe import CACHE_DTYPE

BASELINE = "ft"
"""Method that ratios are relative to."""

PHASES = ("decode", "augment", "source", "cache", "gather", "forward", "backward", "optimizer")

CACHED = "+cache"
"""Suffix of a method that learns from cached features."""

Row = Callable[[], Sample]


@dataclass(frozen=True)
class TrainingBench:
    """What to measure.

    Attributes:
        pictures: image files to load, without a transform.
        rounds: samples of each row, taken in turn with the other rows.
        cached: also measure methods that use the source on cached features, as METHOD`CACHED`.

    Raises:
        SnowError: no method, no round or no step.
    """

    conditions: BenchConditions
    methods: tuple[Variant, ...]
    pictures: Pictures
    rounds: int = 3
    cached: bool = False

    def __post_init__(self) -> None:
        if not self.methods:
            raise SnowError("a benchmark needs at least one method: name some with --methods")
        if self.rounds < 1 or self.conditions.steps < 1:
            raise SnowError("a benchmark takes at least one round and one step")

    def calls(self) -> dict[str, dict[str, Row]]:
        """Collect the rows by kind and name. Limits are those of snow, or of the first method that uses the source."""
        on_source = [variant for variant in self.methods if METHODS[variant.method].uses_source]
        reference = next((variant for variant in on_source if variant.method == "snow"), next(iter(on_source), None))
        kinds: dict[str, dict[str, Row]] = {"methods": {}, "limits": {}}
        for variant in self.methods:
            kinds["methods"][variant.label] = partial(rows.method, self.conditions, variant.build, self.pictures)
        for variant in on_source if self.cached else ():
            kinds["methods"][f"{variant.label}{CACHED}"] = partial(rows.cached, self.conditions, variant.build)
        if reference is not None:
            kinds["limits"]["source"] = partial(rows.source_alone, self.conditions)
            kinds["limits"]["delta"] = partial(rows.delta_alone, self.conditions, reference.build)
        kinds["limits"]["decoding"] = partial(rows.decoding_alone, self.conditions, self.pictures)
        return kinds


def measure_training(
    bench: TrainingBench, out: Path | None = None, log: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Measure all rows round by round, and return the results as JSON values.

    Args:
        out: results file, saved after each round.
        log: called with one line before each row.

    Raises:
        SnowError: `out` holds other results; a process ran out of memory; and as `Source.open` and `EpochSampler`.
    """
    conditions = bench.conditions
    identity = {
        "source": conditions.source,
        "image_size": conditions.image_size,
        "batch_size": conditions.recipe.batch_size,
        "classes": conditions.classes,
        "precision": conditions.recipe.precision,
        "accelerator": conditions.runtime.accelerator,
        "steps": conditions.steps,
        "cached": (conditions.recipe.cache_dtype or CACHE_DTYPE) if bench.cached else None,
        "pictures": len(bench.pictures),
    }
    results = open_results(out, identity, {"rounds": 0, "methods": {}, "limits": {}})
    kinds = bench.calls()
    named = {f"{kind}/{name}": call for kind, calls in kinds.items() for name, call in calls.items()}
    for number, samples in enumerate(interleaved(named, bench.rounds, lambda line: log(_readable(line))), start=1):
        results["rounds"] = number
        for kind, calls in kinds.items():
            results[kind] = {name: _summary(samples[f"{kind}/{name}"]) for name in calls}
        _add_ratios(results)
        save_results(out, results)
    return results


def _readable(line: str) -> str:
    return line.replace("methods/", "").replace("limits/", "limit: ")


def _summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Summarise the samples of one row: medians over rounds, with the range of the speed."""
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


def _add_ratios(results: Mapping[str, Any]) -> None:
    """Add each method's ratios to fine-tuning and to the source pass alone."""
    base, source = results["methods"].get(BASELINE), results["limits"].get("source")
    for entry in results["methods"].values():
        if base is not None:
            entry["over_ft"] = entry["images_per_second"] / base["images_per_second"]
            from_files = entry.get("pipeline_images_per_second", entry["images_per_second"])  # a cache reads no files
            entry["pipeline_over_ft"] = from_files / base["pipeline_images_per_second"]
            entry["memory_over_ft"] = entry["peak_memory_bytes"] / max(1, base["peak_memory_bytes"])
        if source is not None:
            entry["over_source"] = entry["images_per_second"] / source["images_per_second"]
