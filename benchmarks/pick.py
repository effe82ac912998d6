"""How much sooner is a task good if `snow pick` says which pictures to label next?

`python benchmarks/pick.py --data ROOT --out results/pick-128.json` starts with a few random labelled pictures, labels
more of them in steps, and measures on the test pictures, after each step, a linear classifier of the source's final
features in closed form; its penalty and how sure it is come from left-out pictures. It does so on `dtd10`, on all of
`cars196` and on its first 20 classes, from several numbers of labelled pictures. Pictures are picked by `snow pick`, by
doubt alone, by doubt times distance to those picked before, which it did at first, in the middle of groups of all
pictures (typical ones, whatever the doubt), or at random.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from snow.data import Dataset, open_dataset
from snow.experiments.results.record import open_results, save_results
from snow.source import Source
from snow.training.familiarity_pass import final_features
from snow.training.pick import pick

SEEDS = 10
CAR_CLASSES = 20
STEPS = 4

PLANS: dict[str, tuple[int, ...]] = {
    "dtd10": (20, 50, 100),
    f"cars196, {CAR_CLASSES} classes": (40, 50, 100),
    "cars196": (200,),
}
"""Set -> numbers of labelled pictures to start with. Each step adds as many, or 50 where that is less."""

LARGEST_STEP = {"cars196": 400}

PENALTIES = (0.03, 0.1, 0.3, 1.0)
"""Of the mean square of features around their mean."""

SCALES = (2, 4, 6, 8, 12, 16, 24, 32)


def plans() -> dict[str, dict[str, list[int]]]:
    """Numbers of labelled pictures by set, start and step, as JSON values."""
    return {
        name: {str(start): [start + number * step_of(name, start) for number in range(STEPS + 1)] for start in starts}
        for name, starts in PLANS.items()
    }


def step_of(name: str, start: int) -> int:
    return min(start, LARGEST_STEP.get(name, 50))


class Features(NamedTuple):
    """Final features (n, D) and labels (n,) of the pictures to label and of those to test on."""

    pool: Tensor
    labels: Tensor
    test: Tensor
    answers: Tensor


def sets(root: Path) -> dict[str, Dataset]:
    """Open the textures, the first classes of the cars, and all of them."""
    cars = open_dataset(root / "cars196", check=False)
    parts = []
    for pictures in (cars.train, cars.test):
        own = [index for index, label in enumerate(pictures.labels[:, 0].tolist()) if label < CAR_CLASSES]
        parts.append(pictures.subset(own))
    few = Dataset(cars.tasks, *parts)
    dtd = open_dataset(root / "dtd10", check=False)
    return dict(zip(PLANS, (dtd, few, cars), strict=True))


def learned(final: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """Fit ridge regression on one-hot labels in closed form: (n, D), (n,) -> a function (B, D) -> logits (B, C).

    The penalty is that with the smallest squared error on pictures that are left out one by one, and the scale of the
    logits that with the smallest log-loss on these. Classes without a picture are never the answer.
    """
    present, numbers = labels.unique(return_inverse=True)
    centre, targets = final.mean(0), one_hot(numbers, len(present)).float()
    rows, prior = final - centre, targets.mean(0)
    kernel, best = rows @ rows.T, torch.inf
    weight, left_out = torch.zeros(final.shape[1], len(present)), targets
    for penalty in PENALTIES:
        ridge = penalty * kernel.diagonal().mean() * torch.eye(len(rows))
        dual = torch.cholesky_inverse(torch.linalg.cholesky(kernel + ridge))
        residuals = dual @ (targets - prior) / dual.diagonal()[:, None]
        if (error := float(residuals.square().mean())) < best:
            best, weight, left_out = error, rows.T @ (dual @ (targets - prior)), targets - residuals
    scale = min(SCALES, key=lambda each: float(cross_entropy(each * left_out, numbers)))

    def logits(asked: Tensor) -> Tensor:
        values = scale * ((asked - centre) @ weight + prior)
        return torch.full((len(asked), int(present.max()) + 1), -torch.inf).index_copy(1, present, values)

    return logits


def by_distance(doubt: Tensor, final: Tensor, count: int) -> list[int]:
    """Pick one after the other what has the largest doubt times distance to the nearest that is picked."""
    points = normalize(final, dim=1)
    distance, picked = torch.full((len(points),), 2.0), []
    for _ in range(count):
        worth = doubt * distance
        worth[picked] = -1.0
        picked.append(int(worth.argmax()))
        distance = torch.minimum(distance, (points - points[picked[-1]]).norm(dim=1))
    return picked


def chosen(way: str, probabilities: Tensor, final: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Choose pictures to label: (n, C), (n, D) -> (count,) indices."""
    error = 1 - probabilities.amax(1)
    if way == "random":
        return torch.randperm(len(final), generator=generator)[:count]
    if way == "doubt":
        return error.topk(count).indices
    if way == "doubt times distance":
        best = probabilities.topk(2, 1).values
        return torch.tensor(by_distance(1 - (best[:, 0] - best[:, 1]), final, count))
    seed = int(torch.randint(2**31, (1,), generator=generator))
    doubt = torch.ones_like(error) if way == "typical" else error
    return torch.tensor([entry.index for entry in pick(doubt, final, count, seed)])


WAYS = ("pick", "doubt", "doubt times distance", "typical", "random")


def curve(features: Features, start: int, step: int, way: str, seed: int) -> list[float]:
    """Label pictures in steps, and return the accuracy on the test pictures after each: -> STEPS + 1 numbers."""
    generator, found = torch.Generator().manual_seed(seed), []
    known = torch.zeros(len(features.labels), dtype=torch.bool)
    known[torch.randperm(len(known), generator=generator)[:start]] = True
    for number in range(STEPS + 1):
        logits = learned(features.pool[known], features.labels[known])
        found.append(round(float((logits(features.test).argmax(1) == features.answers).double().mean()), 4))
        if number < STEPS:
            pool = (~known).nonzero().flatten()
            probabilities = logits(features.pool[pool]).softmax(1)
            known[pool[chosen(way, probabilities, features.pool[pool], step, generator)]] = True
    return found


def compared(features: Features, start: int, step: int) -> dict[str, Any]:
    """Measure all ways from the same random pictures: -> way -> accuracies, and their lead over random ones."""
    curves = {way: torch.tensor([curve(features, start, step, way, seed) for seed in range(SEEDS)]) for way in WAYS}
    result: dict[str, Any] = {"labelled": [start + step * number for number in range(STEPS + 1)]}
    for way, values in curves.items():
        lead = values - curves["random"]
        result[way] = {
            "top1": rounded(values.mean(0)),
            "deviation": rounded(values.std(0)),
            "lead": rounded(lead.mean(0)),
            "lead_error": rounded(lead.std(0) / SEEDS**0.5),
        }
    return result


def rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds dtd10 and cars196")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--sets", default="", help="name of the set to measure; by default all")
    parser.add_argument("--out", type=Path, required=True, help="results file; what it holds is not run again")
    options = parser.parse_args()
    identity = {"image_size": options.image_size, "seeds": SEEDS, "steps": STEPS, "labelled": plans()}
    results: dict[str, Any] = open_results(options.out, identity, {"sets": {}})
    source = Source.embedded(options.image_size)
    for name, dataset in sets(options.data).items():
        starts = results["sets"].setdefault(name, {})
        left = [start for start in PLANS[name] if str(start) not in starts]
        if not left or options.sets not in ("", name):
            continue
        train, test = (final_features(source, part) for part in (dataset.train, dataset.test))
        unit_train, unit_test = normalize(train, dim=1), normalize(test, dim=1)
        features = Features(unit_train, dataset.train.labels[:, 0], unit_test, dataset.test.labels[:, 0])
        for start in left:
            starts[str(start)] = compared(features, start, step_of(name, start))
            save_results(options.out, results)
            print(name, start, starts[str(start)], flush=True)


if __name__ == "__main__":
    main()
