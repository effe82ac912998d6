"""Training images/s with one process and with several that share every batch (data parallel, gloo or NCCL).

`python benchmarks/processes.py pictures/ --processes 1 2 --out results.json` trains with each number in turn,
`--rounds` times, and measures all epochs but the first. On a CPU the processes share the cores.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from snow.cli.output import print_json
from snow.data import Dataset, open_dataset
from snow.experiments.results.record import provenance, save_results
from snow.experiments.results.table import Spread
from snow.methods.variant import Variant
from snow.process.startup import keep_freed_memory
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.fit import fit


def measure(
    source: Source, dataset: Dataset, variant: Variant, recipe: Recipe, processes: list[int], rounds: int
) -> dict[str, Any]:
    speeds: dict[int, list[float]] = {count: [] for count in processes}
    metrics: dict[int, float] = {}
    for _ in range(rounds):
        for count in processes:
            method = variant.start(source, len(dataset.tasks[0].classes), recipe.seed, 1.0)
            fitted = fit(source, {"task": method}, dataset, recipe, runtime=Runtime(workers=0, devices=count))
            speeds[count] += [record.images_per_second for record in fitted.history if record.epoch > 1]
            metrics[count] = fitted.metrics["task"].top1
    first = Spread.of(speeds[processes[0]]).median
    return {
        **provenance(),
        "source": source.description(),
        "method": variant.label,
        "recipe": recipe.to_dict(),
        "processes": [
            {"count": count, "top1": metrics[count], "of_first": spread.median / first, **asdict(spread)}
            for count, spread in ((count, Spread.of(samples)) for count, samples in speeds.items())
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--source", default="embedded")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--method", default="snow")
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[1, 2], help="speeds are reported relative to the first"
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64, help="over all processes together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    results = measure(
        Source.open(options.source, image_size=options.image_size),
        open_dataset(options.data),
        Variant(options.method),
        Recipe(epochs=options.epochs, batch_size=options.batch_size),
        options.processes,
        options.rounds,
    )
    save_results(options.out, results)
    print_json(results)


if __name__ == "__main__":
    main()
