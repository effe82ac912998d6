"""Time until each way to train reaches the final accuracy of the first way minus two points.

`python benchmarks/time_to_accuracy.py pictures/ --way "ft lr=3e-3" --way snow --way "snow cache=8GB" --out out.json`
writes for each way the training seconds and the accuracy on held-out images after every epoch. A way is a method, as
`snow compare` names it, with its own values for some fields of the recipe. Calibration and filling a cache count as
training time, evaluation does not. Ways that `--out` already holds are not run again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from snow.cli.output import print_json
from snow.data import Dataset, open_dataset
from snow.errors import SnowError
from snow.experiments.results.record import open_results, save_results
from snow.methods.variant import Variant
from snow.process.startup import keep_freed_memory
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.checkpoint import data_digest
from snow.training.fit import fit
from snow.training.history import RunInfo
from snow.training.listeners import Listener, ProgressBar

MARGIN, HELD_OUT = 0.02, 0.2


@dataclass(frozen=True)
class Way:
    """A method and a recipe, such as `snow lr=3e-3 epochs=4`."""

    label: str
    variant: Variant
    recipe: Recipe
    runtime: Runtime

    @classmethod
    def parse(cls, label: str, common: Recipe, runtime: Runtime) -> Way:
        """Parse a method and its changes to the common recipe.

        Raises:
            SnowError: an unknown method or field of the recipe.
        """
        method, *changes = label.split()
        changed: dict[str, Any] = {}
        kinds = {field.name: type(getattr(common, field.name)) for field in fields(Recipe)}
        kinds |= {"cache": str, "cache_views": int, "cache_dtype": str}
        for change in changes:
            name, _, value = change.partition("=")
            if name not in kinds:
                raise SnowError(f"{label!r}: a recipe has no {name}")
            changed[name] = kinds[name](value)
        runtime = replace(runtime, cache=changed.pop("cache", None))
        recipe = replace(common, **changed).resolved(runtime.cache is not None)
        return cls(label, Variant(method), recipe, runtime)


class CalibrationTimer(Listener):
    """Times the calibration: from its construction to the first training step."""

    def __init__(self) -> None:
        self.seconds = -time.monotonic()

    def on_start(self, run: RunInfo) -> None:
        self.seconds += time.monotonic()


def measure(source: Source, dataset: Dataset, ways: list[Way], out: Path | None) -> dict[str, Any]:
    identity = {
        "source": source.description(),
        "data": data_digest(dataset),
        "recipes": {way.label: way.recipe.to_dict() for way in ways},
    }
    results = open_results(out, identity, {"ways": {}})
    for way in ways:
        if way.label not in results["ways"]:
            results["ways"][way.label] = trained(source, dataset, way)
        add_times(results["ways"], ways[0].label)
        save_results(out, results)
    return results


def trained(source: Source, dataset: Dataset, way: Way) -> dict[str, Any]:
    method = way.variant.start(source, len(dataset.tasks[0].classes), way.recipe.seed, 1.0)
    with tempfile.TemporaryDirectory(prefix="snow-") as folder:
        timer, runtime = CalibrationTimer(), replace(way.runtime, cache_dir=Path(folder) / "cache")
        listeners = (timer, ProgressBar())
        fitted = fit(source, {"task": method}, dataset, way.recipe, runtime=runtime, listeners=listeners)
    elapsed, curve = timer.seconds, []
    for record in fitted.history:
        elapsed += record.seconds
        curve.append({"seconds": round(elapsed, 2), "accuracy": record.validation})
    return {"start": round(timer.seconds, 2), "curve": curve, "test": fitted.metrics["task"].to_dict()}


def add_times(ways: dict[str, Any], baseline: str) -> None:
    """Add the time to the target accuracy, in seconds and relative to the baseline's training time."""
    last = ways[baseline]["curve"][-1]
    for way in ways.values():
        reached = [point["seconds"] for point in way["curve"] if point["accuracy"] >= last["accuracy"] - MARGIN]
        way["seconds_to_accuracy"] = reached[0] if reached else None
        way["over_whole_baseline"] = reached[0] / last["seconds"] if reached else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--way", action="append", required=True, help="may be repeated; the first is the baseline")
    parser.add_argument("--source", default="embedded")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    common = Recipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        validation=HELD_OUT,
        seed=options.seed,
    )
    ways = [Way.parse(label, common, Runtime(workers=options.workers)) for label in options.way]
    source = Source.open(options.source, image_size=options.image_size)
    print_json(measure(source, open_dataset(options.data), ways, options.out))


if __name__ == "__main__":
    main()
