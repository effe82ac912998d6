"""Does `snow drift` notice a changed world, and leave another sample of the same one alone?

`python benchmarks/drift.py --data ROOT --out results/drift-128.json` keeps the statistics of the training pictures of
`dtd10` and `ants_bees` as a task does, and compares with them: the test pictures as they are, blurred, darkened, with
other colours, and the test pictures of the other set. Of each it draws samples of several sizes and counts how often
`has_changed` says so, and gives the mean distance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import functional

from snow.data import Pictures, eval_transform, open_dataset
from snow.experiments.results.record import open_results, save_results
from snow.inference.familiarity import Drift, Familiarity
from snow.source import Source
from snow.training.familiarity_pass import final_features

SETS = ("dtd10", "ants_bees")
SIZES = (50, 100)
DRAWS = 50

CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "blurred": lambda pixels: functional.gaussian_blur(pixels, [9, 9], [2.5, 2.5]),
    "darkened to 40 %": lambda pixels: (pixels.float() * 0.4).byte(),
    "darkened to 12 %": lambda pixels: (pixels.float() * 0.12).byte(),
    "yellow light": lambda pixels: (pixels.float() * torch.tensor([1.0, 0.85, 0.5])[:, None, None]).byte(),
}
"""Name -> (3, S, S) uint8 of a picture as the source sees it -> the same."""


def features(source: Source, pictures: Pictures, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Compute final features of pictures, which are changed after they are cropped: (n, D)."""
    if change is None:
        return final_features(source, pictures)
    prepare, rows = eval_transform(source.preprocessing), []
    cropped = pictures.with_transform(prepare)
    with torch.no_grad():
        for start in range(0, len(pictures), 64):
            images = torch.stack([change(cropped[index][0]) for index in range(start, min(start + 64, len(pictures)))])
            rows.append(source(images.contiguous(memory_format=torch.channels_last), frozenset()).final.float())
    return torch.cat(rows)


def judged(known: Tensor) -> dict[str, Any]:
    """Draw samples of each size without replacement, and count those that count as changed."""
    result: dict[str, Any] = {"images": len(known)}
    for size in SIZES:
        drifts = []
        for draw in range(DRAWS):
            order = torch.randperm(len(known), generator=torch.Generator().manual_seed(draw))[:size]
            drifts.append(Drift.of(known[order].tolist()))
        changed = sum(drift.has_changed for drift in drifts) / DRAWS
        distance = sum(drift.distance for drift in drifts) / DRAWS
        result[str(size)] = {"changed": changed, "distance": round(distance, 4)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds dtd10 and ants_bees")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--out", type=Path, required=True, help="results file; tasks that it holds are not run again")
    options = parser.parse_args()
    identity = {"image_size": options.image_size, "sizes": list(SIZES), "draws": DRAWS, "seed": 0}
    results = open_results(options.out, identity, {"tasks": {}})
    source = Source.embedded(options.image_size)
    sets = {name: open_dataset(options.data / name, check=False) for name in SETS}
    for name, other in zip(SETS, reversed(SETS), strict=True):
        if name not in results["tasks"]:
            own = sets[name]
            fitted = Familiarity.fit(final_features(source, own.train), own.train.labels[:, 0])
            assert fitted is not None
            seen = {"as it is": features(source, own.test)}
            seen |= {title: features(source, own.test, change) for title, change in CHANGES.items()}
            seen[other] = features(source, sets[other].test)
            results["tasks"][name] = {title: judged(fitted.known(final)) for title, final in seen.items()}
            save_results(options.out, results)
        print(name, results["tasks"][name], flush=True)


if __name__ == "__main__":
    main()
