"""How well a task tells pictures of its own kind from others: `known` against three common scores.

`python benchmarks/unknowns.py --data ROOT --out results/unknowns-128.json` trains a task of method snow for each pair
of real sets below ROOT, and scores the test pictures of both sides: by `known` of `snow predict`, by the largest
softmax probability (Hendrycks & Gimpel, ICLR 2017), by the energy of the logits (Liu et al., NeurIPS 2020), and by the
distance to the fifth-nearest training picture in final features of unit length (Sun et al., ICML 2022). It reports the
area under the ROC curve, the share of others that pass with 95 % of the own pictures (FPR95), and what `--reject 0.05`
rejects.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from cars_table import parse

from snow.data import Dataset, Pictures, Task, eval_transform, open_dataset
from snow.data.samples import write_samples
from snow.experiments.results.record import open_results, save_results
from snow.hub import Hub
from snow.inference.features import observe
from snow.kinds.scores import auroc, false_positive_rate
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.familiarity_pass import final_features
from snow.training.loader import DeviceLoader, sequential_batches
from snow.training.train import train

OWN_MAKES = 6
REJECT = 0.05


class Pair(NamedTuple):
    """A task, and pictures that are none of it."""

    name: str
    own: Dataset
    other: Pictures


def pairs(root: Path, folder: Path) -> Iterator[Pair]:
    """Open all pairs: quickstart's textures against digits, textures and insects, cars of left-out makes."""
    samples = {name: open_dataset(write_samples(name, folder), check=False) for name in ("textures", "digits")}
    yield Pair("quickstart textures / digits", samples["textures"], samples["digits"].test)
    dtd, insects = (open_dataset(root / name, check=False) for name in ("dtd10", "ants_bees"))
    yield Pair("dtd10 / ants_bees", dtd, insects.test)
    yield Pair("ants_bees / dtd10", insects, dtd.test)
    cars = open_dataset(root / "cars196", check=False)
    names = cars.tasks[0].classes
    makes = sorted({parse(name).make for name in names})
    random.Random(0).shuffle(makes)
    own = {number for number, name in enumerate(names) if parse(name).make in makes[:OWN_MAKES]}
    yield Pair(f"cars196: {OWN_MAKES} makes / other makes", _only(cars, own), _where(cars.test, own, inside=False))


def _only(dataset: Dataset, classes: set[int]) -> Dataset:
    """Keep the pictures of some classes."""
    kept = sorted(classes)
    task = Task("task", tuple(dataset.tasks[0].classes[number] for number in kept))
    place = {number: index for index, number in enumerate(kept)}
    parts = []
    for pictures in (dataset.train, dataset.test):
        own = _where(pictures, classes, inside=True)
        labels = torch.tensor([place[number] for number in own.labels[:, 0].tolist()])
        parts.append(Pictures(own.items, labels))
    return Dataset((task,), *parts)


def _where(pictures: Pictures, classes: set[int], inside: bool) -> Pictures:
    labels = pictures.labels[:, 0].tolist()
    return pictures.subset([index for index, label in enumerate(labels) if (label in classes) == inside])


def measure(pair: Pair, size: int, recipe: Recipe) -> dict[str, Any]:
    """Train the task of a pair and score the test pictures of both sides."""
    own = replace(pair.own, tasks=(Task("task", pair.own.tasks[0].classes),))
    with tempfile.TemporaryDirectory() as folder:
        hub = Hub.create(Path(folder) / "hub", Source.embedded(size))
        [artifact] = train(hub, own, recipe, runtime=Runtime(workers=0, cache="4GB"))
    familiarity, method = artifact.familiarity, artifact.method
    assert familiarity is not None
    learned = torch.nn.functional.normalize(final_features(hub.source, own.train), dim=1)
    scores: dict[str, list[Tensor]] = {"known": [], "softmax": [], "energy": [], "knn": []}
    for pictures in (own.test, pair.other):
        cropped = pictures.with_transform(eval_transform(hub.source.preprocessing))
        for images, _ in DeviceLoader(cropped, sequential_batches(range(len(pictures)), 32), 0, torch.device("cpu")):
            features = observe(hub.source, [method], images)
            with torch.no_grad():
                logits = method(features)
            nearest = torch.cdist(torch.nn.functional.normalize(features.final, dim=1), learned).topk(5, largest=False)
            familiar = familiarity.known(features.final)
            told = familiar if familiarity.confidence is None else familiarity.confidence.known(familiar, logits)
            scores["known"].append(told)
            scores["softmax"].append(logits.softmax(1).amax(1))
            scores["energy"].append(logits.logsumexp(1))
            scores["knn"].append(-nearest.values[:, -1])
    is_own = torch.arange(len(own.test) + len(pair.other)) < len(own.test)
    joined = {name: torch.cat(parts).double() for name, parts in scores.items()}
    return {
        "classes": len(own.tasks[0].classes),
        "train": len(own.train),
        "own": len(own.test),
        "other": len(pair.other),
        "top1": artifact.metrics["test"]["top1"],
        "score": "neighbours" if len(familiarity.neighbours) else "gaussian",
        "bytes": sum(value.numel() * value.element_size() for value in familiarity.tensors().values()),
        "auroc": {name: round(auroc(values, is_own), 4) for name, values in joined.items()},
        "fpr95": {name: round(false_positive_rate(values, is_own), 4) for name, values in joined.items()},
        "rejected": {
            "own": round(float((joined["known"][is_own] < REJECT).double().mean()), 4),
            "other": round(float((joined["known"][~is_own] < REJECT).double().mean()), 4),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds dtd10, ants_bees and cars196")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pairs", default="", help="part of the names of the pairs to measure; by default all")
    parser.add_argument("--out", type=Path, required=True, help="results file; pairs that it holds are not run again")
    options = parser.parse_args()
    recipe = Recipe(epochs=options.epochs, cache_views=2)
    identity = {"image_size": options.image_size, "recipe": recipe.to_dict(), "reject": REJECT}
    results = open_results(options.out, identity, {"pairs": {}})
    with tempfile.TemporaryDirectory() as folder:
        for pair in pairs(options.data, Path(folder)):
            if options.pairs not in pair.name:
                continue
            if pair.name not in results["pairs"]:
                results["pairs"][pair.name] = measure(pair, options.image_size, recipe)
                save_results(options.out, results)
            print(pair.name, results["pairs"][pair.name], flush=True)


if __name__ == "__main__":
    main()
