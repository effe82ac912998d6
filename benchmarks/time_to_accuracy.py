"""When each way to train reaches the final accuracy of the first way, less two points.

`python benchmarks/time_to_accuracy.py pictures/ --way "ft lr=3e-3" --way snow --way "snow cache=8GB" --out out.json`
writes for each way the seconds of training and the accuracy on held-out pictures after every epoch. A way is a method,
as `snow compare` names it, and what of the recipe is its own. Calibration and the filling of a cache are training;
measuring is not. What `--out` holds already is not run again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from snow.cli.output import print_json
from snow.data import Dataset, open_dataset
from snow.errors import SnowError
from snow.experiments.results.record import open_results, save_results
from snow.methods.variant import Variant
from snow.process.startup import keep_freed_memory
from snow.source import Source
from snow.training import Recipe
from snow.training.checkpoint import data_digest
from snow.training.fit import fit
from snow.training.history import Plan
from snow.training.listeners import Listener, ProgressBar

MARGIN, HELD_OUT = 0.02, 0.2


@dataclass(frozen=True)
class Way:
    """A method and a recipe: `snow lr=3e-3 epochs=4`, of a recipe for all."""

    label: str
    variant: Variant
    recipe: Recipe

    @classmethod
    def parse(cls, label: str, common: Recipe) -> Way:
        """Raises SnowError for what is not a method or not a part of a recipe."""
        method, *changes = label.split()
        own: dict[str, Any] = {}
        kinds = {field.name: type(getattr(common, field.name)) for field in fields(Recipe)} | {"cache": str}
        for change in changes:
            name, _, value = change.partition("=")
            if name not in kinds:
                raise SnowError(f"{label!r}: a recipe has no {name}")
            own[name] = kinds[name](value)
        return cls(label, Variant(method), replace(common, **own))


class Start(Listener):
    """How many seconds go by from when it is made to the first step: the calibration."""

    def __init__(self) -> None:
        self.seconds = -time.monotonic()

    def on_start(self, plan: Plan) -> None:
        self.seconds += time.monotonic()


def measure(source: Source, dataset: Dataset, ways: list[Way], out: Path | None) -> dict[str, Any]:
    settings = {
        "source": source.description(),
        "data": data_digest(dataset),
        "recipes": {way.label: way.recipe.to_dict() for way in ways},
    }
    results = open_results(out, settings, {"ways": {}})
    for way in ways:
        if way.label not in results["ways"]:
            results["ways"][way.label] = trained(source, dataset, way)
        relate(results["ways"], ways[0].label)
        save_results(out, results)
    return results


def trained(source: Source, dataset: Dataset, way: Way) -> dict[str, Any]:
    method = way.variant.start(source, len(dataset.tasks[0].classes), way.recipe.seed, 1.0)
    with tempfile.TemporaryDirectory(prefix="snow-") as folder:
        start, cache = Start(), Path(folder) / "cache"
        listeners = (start, ProgressBar())
        fitted = fit(source, {"task": method}, dataset, way.recipe, listeners=listeners, cache=cache)
    passed, curve = start.seconds, []
    for record in fitted.history:
        passed += record.seconds
        curve.append({"seconds": round(passed, 2), "accuracy": record.validation})
    return {"start": round(start.seconds, 2), "curve": curve, "test": asdict(fitted.metrics["task"])}


def relate(ways: dict[str, Any], baseline: str) -> None:
    """Adds when each reached the accuracy that is asked for, in seconds and in parts of the baseline's time."""
    last = ways[baseline]["curve"][-1]
    for way in ways.values():
        reached = [one["seconds"] for one in way["curve"] if one["accuracy"] >= last["accuracy"] - MARGIN]
        way["seconds_to_accuracy"] = reached[0] if reached else None
        way["over_whole_baseline"] = reached[0] / last["seconds"] if reached else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--way", action="append", required=True, help="the first is what the others are measured by")
    parser.add_argument("--source", default="embedded")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    keep_freed_memory()
    common = Recipe(
        epochs=given.epochs,
        batch_size=given.batch_size,
        workers=given.workers,
        validation=HELD_OUT,
        seed=given.seed,
    )
    ways = [Way.parse(label, common) for label in given.way]
    source = Source.open(given.source, image_size=given.image_size)
    print_json(measure(source, open_dataset(given.data), ways, given.out))


if __name__ == "__main__":
    main()
