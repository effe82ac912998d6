"""How well a class, tags and a number are learned from one pass: method snow against a linear probe, on real cars.

`python benchmarks/kinds.py --data ROOT/cars196 --out results/kinds-cars-128.json` makes the table of
`benchmarks/cars_table.py` for some makes, trains body (class), tags (make and body) and year (number) together with
each method, and reports the figures of the test pictures. Runs that the results file holds are not run again.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from cars_table import parse

from snow.data import Dataset, open_dataset, picture_files
from snow.experiments.results.record import open_results, save_results
from snow.hub import Hub
from snow.methods import METHODS
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.train import train

KINDS = {"tags": "multi", "year": "number"}


def write_table(root: Path, table: Path, makes: set[str], every: int) -> Path:
    """Write a table of every so-many-th picture of some makes."""
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("path", "split", "body", "tags", "year"))
        for part in ("train", "test"):
            for folder in sorted(path for path in (root / part).iterdir() if path.is_dir()):
                car = parse(folder.name)
                for picture in picture_files(folder)[::every] if car.make in makes else ():
                    path = picture.relative_to(root).as_posix()
                    rows.writerow((path, part, car.body, f"{car.make}|{car.body}", car.year))
    return table


def measure(dataset: Dataset, method: str, size: int, recipe: Recipe) -> dict[str, Any]:
    """Train all tasks with a method in one pass, and return the figures of each."""
    with tempfile.TemporaryDirectory() as folder:
        hub = Hub.create(Path(folder) / "hub", Source.embedded(size))
        runtime = Runtime(workers=0, cache="4GB" if METHODS[method].uses_source else None)
        artifacts = train(hub, dataset, recipe, method=method, runtime=runtime)
        return {
            artifact.name: {
                "kind": artifact.labels.name,
                **artifact.metrics["test"],
                "parameters": artifact.metrics["learned_parameters"],
                "seconds": artifact.metrics["seconds"],
            }
            for artifact in artifacts
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Stanford Cars: train/CLASS/ and test/CLASS/")
    parser.add_argument("--makes", default="Audi,BMW,Ford,Honda,Jeep")
    parser.add_argument("--every", type=int, default=2, help="use every so-many-th picture of a class")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--methods", default="fo,snow")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    recipe = Recipe(epochs=options.epochs, cache_views=2)
    identity = {
        "image_size": options.image_size,
        "makes": options.makes,
        "every": options.every,
        "recipe": recipe.to_dict(),
    }
    results = open_results(options.out, identity, {"methods": {}})
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(options.data, Path(folder) / "cars.csv", set(options.makes.split(",")), options.every)
        dataset = open_dataset(table, labels=["body", *KINDS], kinds=KINDS, root=options.data, check=False)
        results["train"], results["test"] = len(dataset.train), len(dataset.test)
        for method in options.methods.split(","):
            if method not in results["methods"]:
                results["methods"][method] = measure(dataset, method, options.image_size, recipe)
                save_results(options.out, results)
            print(method, results["methods"][method], flush=True)


if __name__ == "__main__":
    main()
