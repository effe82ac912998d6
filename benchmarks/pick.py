"""How much sooner is a task good if `snow pick` says which pictures to label next?

`python benchmarks/pick.py --data ROOT --out results/pick-128.json` starts with a few random labelled pictures, labels
more of them in steps, and measures a linear classifier of the source's final features on the test pictures after each
step. Pictures are picked by doubt and coverage (`snow pick`), by doubt alone, by coverage alone, or at random.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from snow.data import Dataset, Pictures, open_dataset
from snow.experiments.results.record import open_results, save_results
from snow.kinds import ClassKind
from snow.source import Source
from snow.training.familiarity_pass import final_features
from snow.training.pick import doubts, pick

SEEDS = 5
START, STEP, STEPS = 50, 50, 4
CAR_CLASSES = 20


def sets(root: Path) -> dict[str, Dataset]:
    """Open the textures, and the first classes of the cars."""
    cars = open_dataset(root / "cars196", check=False)
    parts = []
    for pictures in (cars.train, cars.test):
        own = [index for index, label in enumerate(pictures.labels[:, 0].tolist()) if label < CAR_CLASSES]
        subset = pictures.subset(own)
        parts.append(Pictures(subset.items, subset.labels[:, 0]))
    few = Dataset(cars.tasks, *parts)
    return {"dtd10": open_dataset(root / "dtd10", check=False), f"cars196, {CAR_CLASSES} classes": few}


def curve(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], way: str, seed: int) -> list[float]:
    """Label pictures in steps, and return the accuracy on the test pictures after each: (n, D), (n,) -> STEPS + 1."""
    (final, labels), found = train, []
    generator = torch.Generator().manual_seed(seed)
    known = torch.zeros(len(labels), dtype=torch.bool)
    known[torch.randperm(len(labels), generator=generator)[:START]] = True
    for step in range(STEPS + 1):
        model = LogisticRegression(C=10.0, max_iter=200).fit(final[known].numpy(), labels[known].numpy())
        found.append(round(float(model.score(test[0].numpy(), test[1].numpy())), 4))
        if step == STEPS:
            break
        pool = (~known).nonzero().flatten()
        logits = torch.from_numpy(model.predict_log_proba(final[pool].numpy()))
        kind = ClassKind(tuple(map(str, model.classes_)))
        doubt = doubts(SimpleNamespace(name="task", labels=kind), logits)  # ty: ignore[invalid-argument-type]
        if way == "random":
            chosen = torch.randperm(len(pool), generator=generator)[:STEP]
        elif way == "doubt":
            chosen = doubt.argsort(descending=True)[:STEP]
        else:
            doubt = torch.ones_like(doubt) if way == "coverage" else doubt
            chosen = torch.tensor([entry.index for entry in pick(doubt, final[pool], STEP)])
        known[pool[chosen]] = True
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds dtd10 and cars196")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--out", type=Path, required=True, help="results file; sets that it holds are not run again")
    options = parser.parse_args()
    steps = [START + STEP * step for step in range(STEPS + 1)]
    identity = {"image_size": options.image_size, "labelled": steps, "seeds": SEEDS}
    results: dict[str, Any] = open_results(options.out, identity, {"sets": {}})
    source = Source.embedded(options.image_size)
    for name, dataset in sets(options.data).items():
        if name not in results["sets"]:
            train, test = (
                (torch.nn.functional.normalize(final_features(source, part), dim=1) * 10, part.labels[:, 0])
                for part in (dataset.train, dataset.test)
            )
            found = {}
            for way in ("pick", "doubt", "coverage", "random"):
                curves = torch.tensor([curve(train, test, way, seed) for seed in range(SEEDS)])
                found[way] = {
                    "top1": [round(value, 4) for value in curves.mean(0).tolist()],
                    "deviation": [round(value, 4) for value in curves.std(0).tolist()],
                }
            results["sets"][name] = {"train": len(dataset.train), "test": len(dataset.test), **found}
            save_results(options.out, results)
        print(name, results["sets"][name], flush=True)


if __name__ == "__main__":
    main()
