"""Measure what SNOW adds to a linear probe on several sources, and whether `snow sources rank` orders these alike.

`python benchmarks/sources.py --data DATA --sets ants_bees dtd10 --sources embedded NAME=FILE --out out.json` trains
each method on each set and source, at one image size, and measures it on all test pictures. NAME=FILE is a model of
timm and its weights. Each method chooses its learning rate on held-out training pictures. With `--rank` it ranks the
sources by the training pictures alone, and adds the rank correlation with the measured accuracies. What `--out` already
holds is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snow.cli.output import note, print_json
from snow.data import open_dataset
from snow.errors import SnowError
from snow.experiments.compare import Comparison, run_comparison
from snow.experiments.rank.rank import Ranking, open_named, rank_sources
from snow.experiments.rank.table import rank_correlation
from snow.experiments.results.record import open_results, provenance, save_results
from snow.methods.variant import Variant
from snow.process.startup import keep_freed_memory
from snow.training import Recipe, Runtime
from snow.training.listeners import ProgressBar


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train every method on every set and source, and save after each pair."""
    variants, recipe = Variant.parse(options.methods), Recipe(epochs=options.epochs, cache_views=options.views)
    identity = {"image_size": options.image_size, "recipe": recipe.to_dict(), "rates": options.rates}
    results = {**open_results(options.out, identity, {"sets": {}}), **provenance()}
    for name in options.sets:
        dataset = open_dataset(options.data / name, task=name, check=False)
        entry = results["sets"].setdefault(name, {"sources": {}})
        entry |= {"classes": len(dataset.tasks[0].classes), "train": len(dataset.train), "test": len(dataset.test)}
        for text in options.sources:
            label = text.partition("=")[0]
            methods = entry["sources"].setdefault(label, {"methods": {}})["methods"]
            if missing := tuple(variant for variant in variants if variant.label not in methods):
                source = open_named(text, options.image_size)
                runtime = Runtime(workers=0, cache=options.cache)
                comparison = Comparison(
                    source, dataset, recipe, missing, tuple(options.rates), (0,), costs=False, runtime=runtime
                )

                def listeners(stage: str, text: str = f"{name}, {label}") -> Sequence[ProgressBar]:
                    note(f"{text}: {stage} …")
                    return (ProgressBar(),)

                for method, found in run_comparison(comparison, listeners=listeners)["methods"].items():
                    run = found["runs"]["0"]
                    kept = {"kept": run["evidence"]["training"]["kept"]} if "evidence" in run else {}
                    figures = {key: run[key] for key in ("top1", "ece", "learned_parameters")}
                    methods[method] = {**figures, "lr": found["lr"], **kept}
                entry["sources"][label] |= {"parameters": source.learned_parameters, "features": source.num_features}
                save_results(options.out, results)
        if options.rank:
            _rank(options, entry, name)
            save_results(options.out, results)
    return results


def _rank(options: argparse.Namespace, entry: dict[str, Any], name: str) -> None:
    """Rank the sources by training pictures, and correlate with the accuracies on test pictures."""
    dataset = open_dataset(options.data / name, task=name, check=False)
    openers = {text.partition("=")[0]: text for text in options.sources}
    ranking = Ranking(dataset.train, dataset.tasks[0], tuple(openers), (options.image_size,), sample=options.pictures)
    found = rank_sources(ranking, open_source=lambda label, size: open_named(openers[label], size), seconds=0.0)
    entry["rank"] = found["sources"]
    for method in entry["sources"][next(iter(openers))]["methods"]:
        measured = [entry["sources"][label]["methods"][method]["top1"] for label in openers]
        predicted = [found["sources"][f"{label}@{options.image_size}"]["accuracy"] for label in openers]
        entry.setdefault("rank_correlation", {})[method] = rank_correlation(predicted, measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--sources", nargs="+", required=True)
    parser.add_argument("--methods", default="fo,snow")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2])
    parser.add_argument("--cache", help="keep features of views of each picture within this size, such as 4GB")
    parser.add_argument("--views", type=int, default=4, help="views of each picture that are kept")
    parser.add_argument("--rank", action="store_true", help="rank the sources as well")
    parser.add_argument("--pictures", type=int, default=1000, help="training pictures that the ranking looks at")
    parser.add_argument("--out", type=Path)
    keep_freed_memory()
    options = parser.parse_args()
    if not all((options.data / name).is_dir() for name in options.sets):
        raise SnowError(f"{options.data} has no folder of each set")
    print_json(measure(options))


if __name__ == "__main__":
    main()
