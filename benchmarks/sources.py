"""Measure what the start of SNOW adds to a linear probe on several sources, and whether `snow sources rank` orders them
as test pictures do.

`python benchmarks/sources.py --data DATA --sets ants_bees dtd10 --sources embedded NAME=FILE --out out.json` runs each
source once over the training and the test pictures, without augmentation. Classifiers are fitted in closed form to all
training pictures, by what left-out ones bear out, and measured on all test pictures. NAME=FILE is a model of timm and
its weights. With `--methods fo,snow` the methods are trained as well, each at the best of `--rates` on held-out
training pictures. What `--out` already holds is not measured again.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snow.cli.output import note, print_json
from snow.data import Dataset, Pictures, open_dataset
from snow.data.transforms import eval_transform
from snow.delta import Readout, SnowConfig, find_start
from snow.delta.pass_rows import FINAL_BLOCK, PassRows
from snow.errors import SnowError
from snow.experiments.compare import Comparison, run_comparison
from snow.experiments.rank.rank import BATCH, open_named
from snow.experiments.rank.table import rank_correlation
from snow.experiments.results.record import open_results, provenance, save_results
from snow.inference.features import observe
from snow.inference.fused import fuse_for_inference
from snow.methods import METHODS, Method
from snow.methods.calibration_rows import CalibrationRows
from snow.methods.snow import Snow
from snow.methods.variant import Variant
from snow.process.startup import keep_freed_memory
from snow.source import FINAL, Features, Source
from snow.training import Recipe, Runtime
from snow.training.listeners import ProgressBar
from snow.training.loader import DeviceLoader, sequential_batches


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every source on every set, and save after each pair."""
    recipe = Recipe(epochs=options.epochs, cache_views=options.views)
    results = {**open_results(options.out, {"recipe": recipe.to_dict()}, {"sources_of": {}}), **provenance()}
    results["command"] = re.sub(r"=\S*/", "=", results["command"])  # no folders of this machine
    for name in options.sets:
        dataset = open_dataset(options.data / name, task=name, check=False)
        entry = results["sources_of"].setdefault(name, {"sources": {}})
        entry |= {"classes": len(dataset.tasks[0].classes), "train": len(dataset.train), "test": len(dataset.test)}
        for text, size in itertools.product(options.sources, options.image_size):
            label = f"{text.partition('=')[0]}@{size}"
            found = entry["sources"].setdefault(label, {})
            missing = [v for v in Variant.parse(options.methods) if v.label not in found.get("methods", {})]
            if "start" in found and not missing:
                continue
            note(f"{name}, {label} …")
            source = open_named(text, size)
            if "start" not in found:
                found |= {"parameters": source.learned_parameters, "features": source.num_features}
                found |= closed_form(source, dataset)
            if missing:
                found.setdefault("methods", {}).update(trained(source, dataset, recipe, tuple(missing), options))
            entry["rank_correlation"] = correlations(entry["sources"])
            save_results(options.out, results)
    return results


def batches(source: Source, method: Method, pictures: Pictures) -> Iterator[tuple[Features, Tensor]]:
    """Run a source over pictures, and give its features with their labels."""
    pictures = pictures.with_transform(eval_transform(source.preprocessing))
    keys = sequential_batches(range(len(pictures)), BATCH)
    for chunk, (images, _) in zip(keys, DeviceLoader(pictures, keys, 0, torch.device("cpu")), strict=True):
        yield observe(source, [method], images), pictures.labels[chunk, 0].long()


def closed_form(source: Source, dataset: Dataset) -> dict[str, Any]:
    """Fit a linear probe and the start of SNOW to the training pictures, and measure both on the test pictures."""
    classes = len(dataset.tasks[0].classes)
    method, fused = METHODS["snow"].build(source, classes), fuse_for_inference(source)
    assert isinstance(method, Snow)
    taps = [level.tap for level in method.plan.levels]
    collected = CalibrationRows.of(batches(fused, method, dataset.train), taps, 1, with_answers=source.num_classes > 1)
    rows = collected.pass_rows(classes)
    budget = max(round(SnowConfig().budget * source.learned_parameters), (source.num_features + 1) * classes)
    probe = PassRows({FINAL_BLOCK: rows.blocks[FINAL_BLOCK]}, {FINAL_BLOCK: rows.parts[FINAL_BLOCK]}, *rows[2:])
    parts = {"start": collected.parts(), "probe": [(FINAL, source.num_features)]}
    starts = {"start": find_start(rows, budget), "probe": find_start(probe, 0)}
    readouts = {name: Readout.from_start(start, parts[name]).eval() for name, start in starts.items()}
    right = dict.fromkeys(readouts, 0)
    with torch.no_grad():
        for features, labels in batches(fused, method, dataset.test):
            for name, readout in readouts.items():
                right[name] += int((readout(features).argmax(1) == labels).sum())
    return {
        name: {
            "top1": right[name] / len(dataset.test),
            "numbers": start.evidence["chosen"]["numbers"],
            "left_out_accuracy": start.evidence["chosen"]["accuracy"],
            "left_out_loss": start.evidence["chosen"]["loss"],
            "inputs": start.evidence["chosen"]["inputs"],
        }
        for name, start in starts.items()
    }


def trained(
    source: Source, dataset: Dataset, recipe: Recipe, variants: tuple[Variant, ...], options: argparse.Namespace
) -> dict[str, Any]:
    """Train methods as `snow compare` does."""

    def listeners(stage: str) -> Sequence[ProgressBar]:
        note(f"{stage} …")
        return (ProgressBar(),)

    runtime = Runtime(workers=0, cache=options.cache)
    comparison = Comparison(source, dataset, recipe, variants, tuple(options.rates), costs=False, runtime=runtime)
    methods = {}
    for method, found in run_comparison(comparison, listeners=listeners)["methods"].items():
        run = found["runs"]["0"]
        kept = {"kept": run["evidence"]["training"]["kept"]} if "evidence" in run else {}
        methods[method] = {key: run[key] for key in ("top1", "ece", "learned_parameters")} | {"lr": found["lr"], **kept}
    return methods


def correlations(sources: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Correlate the ranks that left-out training pictures give with those of the test pictures."""
    measured = [entry for entry in sources.values() if "start" in entry]
    found = {}
    for name in ("start", "probe"):
        truth = [entry[name]["top1"] for entry in measured]
        found[f"{name} by accuracy"] = rank_correlation([e["start"]["left_out_accuracy"] for e in measured], truth)
        found[f"{name} by log-loss"] = rank_correlation([-e["start"]["left_out_loss"] for e in measured], truth)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--sources", nargs="+", required=True)
    parser.add_argument("--methods", default="", help="methods that are trained as well, such as fo,snow")
    parser.add_argument("--image-size", type=int, nargs="+", default=[128])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2])
    parser.add_argument("--cache", help="keep features of views of each picture within this size, such as 4GB")
    parser.add_argument("--views", type=int, default=4, help="views of each picture that are kept")
    parser.add_argument("--out", type=Path)
    keep_freed_memory()
    options = parser.parse_args()
    if not all((options.data / name).is_dir() for name in options.sets):
        raise SnowError(f"{options.data} has no folder of each set")
    print_json(measure(options))


if __name__ == "__main__":
    main()
