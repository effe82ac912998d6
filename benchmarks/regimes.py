"""Compare methods over regimes: few and many pictures a class, few and many classes, kinds that are alike and not.

`python benchmarks/regimes.py --data DATA --cells cars196:4 cars196/40:8 dtd10:all --out out.json` trains each method on
subsets of real data sets, drawn by seed, and measures it on all their test pictures. A cell is `NAME[/CLASSES]:COUNT`:
the folder NAME of `--data` (or `digits` or `textures`, which come with the installation), its first CLASSES classes,
and COUNT training pictures of each, or `all`. Each method chooses its learning rate on held-out training pictures of
the subset; the test pictures are read once, at the end. Cells that `--out` already holds are not run again.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from snow.cli.output import note, print_json
from snow.data import Dataset, Pictures, Task, open_dataset
from snow.data.samples import write_samples
from snow.errors import SnowError
from snow.experiments.compare import Comparison, run_comparison
from snow.experiments.results.record import open_results, provenance, save_results
from snow.methods.variant import Variant
from snow.process.startup import keep_freed_memory
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.listeners import ProgressBar

SAMPLES = ("digits", "textures")


@dataclass(frozen=True)
class Cell:
    """One regime.

    Attributes:
        name: of the data set.
        classes: its first classes; None: all.
        per_class: training pictures of each class; None: all.
    """

    name: str
    classes: int | None
    per_class: int | None

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Parse `NAME[/CLASSES]:COUNT`. Raises SnowError if it is not of this form."""
        data, _, count = text.partition(":")
        name, _, classes = data.partition("/")
        try:
            per_class = None if count == "all" else int(count)
            return cls(name, int(classes) if classes else None, per_class)
        except ValueError:
            raise SnowError(
                f"a cell is NAME[/CLASSES]:COUNT, such as cars196/40:8 or dtd10:all, not {text!r}"
            ) from None

    def subset(self, dataset: Dataset, seed: int) -> Dataset:
        """Draw the training pictures of the cell by a seed, and keep all test pictures of its classes."""
        task = dataset.tasks[0]
        classes = task.classes[: self.classes]
        generator = torch.Generator().manual_seed(1000 + seed)
        labels = dataset.train.labels[:, 0]
        chosen = []
        for value in range(len(classes)):
            members = (labels == value).nonzero().flatten()
            chosen.append(members[torch.randperm(len(members), generator=generator)][: self.per_class])
        train = dataset.train.subset(torch.cat(chosen).sort().values.tolist())
        test = (dataset.test.labels[:, 0] < len(classes)).nonzero().flatten()
        return Dataset((Task(task.name, classes),), train, _only_labelled(dataset.test, test))


def _only_labelled(pictures: Pictures, index: torch.Tensor) -> Pictures:
    return pictures.subset([number for number in index.tolist() if pictures.labels[number, 0] >= 0])


def open_cell(cell: Cell, data: Path, samples: Path) -> Dataset:
    """Open the data set of a cell, without decoding its pictures first."""
    folder = write_samples(cell.name, samples) if cell.name in SAMPLES else data / cell.name
    return open_dataset(folder, task=cell.name, check=False)


def measure(options: argparse.Namespace, samples: Path) -> dict[str, Any]:
    """Measure every cell with every seed, and save after each."""
    source = Source.open(options.source, image_size=options.image_size)
    variants = Variant.parse(options.methods)
    recipe = Recipe(epochs=options.epochs, batch_size=32)
    identity = {"source": source.description(), "recipe": recipe.to_dict(), "rates": options.rates}
    results = {**open_results(options.out, identity, {"regimes": {}}), **provenance()}
    for text in options.cells:
        entry = results["regimes"].setdefault(text, {"methods": {}})
        cell = Cell.parse(text)
        dataset = open_cell(cell, options.data, samples)
        for seed in range(options.seeds):
            missing = tuple(v for v in variants if str(seed) not in entry["methods"].get(v.label, {}))
            if not missing:
                continue
            subset = cell.subset(dataset, seed)
            entry |= {"classes": len(subset.tasks[0].classes), "train": len(subset.train), "test": len(subset.test)}

            def listeners(stage: str, text: str = text) -> tuple[ProgressBar]:
                note(f"{text}: {stage} …")
                return (ProgressBar(),)

            comparison = Comparison(
                source,
                subset,
                replace(recipe, seed=seed),
                missing,
                tuple(options.rates),
                (seed,),
                costs=False,
                runtime=Runtime(workers=options.workers, cache=options.cache),
            )
            measured = run_comparison(comparison, listeners=listeners)
            for label, found in measured["methods"].items():
                entry["methods"].setdefault(label, {})[str(seed)] = _summary(found, seed)
            save_results(options.out, results)
    return results


def _summary(found: dict[str, Any], seed: int) -> dict[str, Any]:
    run = found["runs"][str(seed)]
    kept = {"kept": run["evidence"]["training"]["kept"]} if "evidence" in run else {}
    return {name: run[name] for name in ("top1", "ece", "learned_parameters")} | {"lr": found["lr"], **kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--cells", nargs="+", required=True)
    parser.add_argument("--methods", default="fo,head2toe,snow")
    parser.add_argument("--source", default="embedded")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--cache", help="keep features of four views of each picture within this size, such as 4GB")
    parser.add_argument("--out", type=Path)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="snow-") as samples:
        print_json(measure(parser.parse_args(), Path(samples)))


if __name__ == "__main__":
    main()
