"""When each way to train reaches the final accuracy of fine-tuning, less two points.

`python benchmarks/time_to_accuracy.py PICTURES --epochs 12` writes JSON: for each way the seconds of training and the
accuracy on held-out pictures after every epoch. Calibration and the filling of a cache are training; measuring is not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from snow.cli.output import print_json
from snow.compare.provenance import provenance
from snow.compare.record import keep
from snow.compare.variant import Variant
from snow.data import Dataset, open_dataset
from snow.source import Source
from snow.training.checkpoint import data_fingerprint
from snow.training.history import Plan
from snow.training.listeners import Listener, ProgressBar
from snow.training.loop import fit
from snow.training.recipe import Recipe

BASELINE, MARGIN, HELD_OUT = "ft", 0.02, 0.2


class Start(Listener):
    """How many seconds go by from when it is made to the first step: the calibration."""

    def __init__(self) -> None:
        self.seconds = -time.monotonic()

    def on_start(self, plan: Plan) -> None:
        self.seconds += time.monotonic()


def measure(
    source: Source, dataset: Dataset, recipe: Recipe, methods: str, cache: str, out: Path | None
) -> dict[str, Any]:
    """Each method in turn; those that use the source on a cache as well."""
    recipe = replace(recipe, validation=HELD_OUT)
    settings = {"source": source.description(), "data": data_fingerprint(dataset), "recipe": recipe.to_dict()}
    results: dict[str, Any] = {**provenance(), **settings, "ways": {}}
    ways = [(variant, None) for variant in Variant.parse(methods)]
    ways += [(variant, cache) for variant, _ in ways if variant.method != BASELINE]
    for variant, size in ways:
        method = variant.start(source, len(dataset.tasks[0].classes), recipe.seed, 1.0)
        with tempfile.TemporaryDirectory(prefix="snow-") as folder:
            run, start = replace(recipe, cache=size), Start()
            fitted = fit(
                source, {"task": method}, dataset, run, listeners=(start, ProgressBar()), cache=Path(folder) / "cache"
            )
        passed, curve = start.seconds, []
        for record in fitted.history:
            passed += record.seconds
            curve.append({"seconds": round(passed, 2), "accuracy": record.validation})
        name = variant.label if size is None else f"{variant.label}+cache"
        results["ways"][name] = {"curve": curve, "test": asdict(fitted.metrics["task"])}
        _relate(results["ways"])
        keep(out, results)
    return results


def _relate(ways: dict[str, Any]) -> None:
    """Adds when each reached the accuracy that is asked for, in seconds and in parts of the baseline's time."""
    if BASELINE not in ways:
        return
    last = ways[BASELINE]["curve"][-1]
    for way in ways.values():
        reached = [one["seconds"] for one in way["curve"] if one["accuracy"] >= last["accuracy"] - MARGIN]
        way["seconds_to_accuracy"] = reached[0] if reached else None
        way["over_whole_baseline"] = reached[0] / last["seconds"] if reached else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--source", default="embedded")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--methods", default="ft,snow")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--cache", default="20GB")
    parser.add_argument("--cache-views", type=int, default=4)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    print_json(
        measure(
            Source.open(given.source, image_size=given.image_size),
            open_dataset(given.data),
            Recipe(
                epochs=given.epochs,
                batch_size=given.batch_size,
                workers=given.workers,
                cache_views=given.cache_views,
            ),
            given.methods,
            given.cache,
            given.out,
        )
    )
