"""Does `snow drift` notice a changed world, and leave another sample of the same one alone?

`python benchmarks/drift.py --data ROOT --out results/drift-128.json` keeps the statistics of the training pictures of
five real sets as a task does: the textures and digits of the quickstart, `dtd10`, `ants_bees`, and six makes of
`cars196`. It compares windows of left-out training pictures with them, and of test pictures: as they are, with
other shares of the classes, of one class alone, with other light, contrast or sharpness, compressed, with noise, and
pictures of another set. Of each it draws windows of several sizes without replacement, and counts how often
`has_changed` says so, and how often the mean content, the mean appearance, or the distance of familiarities alone do.
A size that a set has too few pictures for is left out. No setting is chosen here. The textures of the quickstart are
three photographs; the upper parts are trained on, and the lower ones, with other light, are the test pictures.

Changes are made on the square that the source sees, and some, named "file", on the picture before it is made smaller.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.io import decode_jpeg, encode_jpeg
from torchvision.transforms import functional

sys.path.insert(0, str(Path(__file__).parent))
from unknowns import pairs

from snow.data import Dataset, Pictures, eval_transform, open_dataset
from snow.data.samples import write_samples
from snow.experiments.results.record import open_results, save_results
from snow.inference.appearance import appearance
from snow.inference.drift import Drift
from snow.inference.familiarity import Familiarity
from snow.source import Source
from snow.training.familiarity_pass import Passed, pass_pictures

SIZES = (20, 50, 200)
DRAWS = 300
SPLITS = 6
"""Of the training pictures, to ask some of them that the statistics were not made of."""

MOST_OTHERS = 400
"""Pictures of another set that are compared."""

Change = Callable[[Tensor], Tensor]
"""uint8 (3, H, W) -> the same."""


def brighter(factor: float, pixels: Tensor) -> Tensor:
    return (pixels.float() * factor).clamp(max=255).byte()


def blurred(sigma: float, pixels: Tensor) -> Tensor:
    side = 2 * int(3 * sigma) + 1
    return functional.gaussian_blur(pixels, [side, side], [sigma, sigma])


def less_contrast(pixels: Tensor) -> Tensor:
    return (pixels.float() * 0.5 + 63.75).byte()


def compressed(pixels: Tensor) -> Tensor:
    return decode_jpeg(encode_jpeg(pixels.contiguous(), quality=10))


def noisy(pixels: Tensor) -> Tensor:
    """Add noise of a standard deviation of 20 of 255, the same each time for the same picture."""
    generator = torch.Generator().manual_seed(int(pixels.sum()))
    return (pixels.float() + 20 * torch.randn(pixels.shape, generator=generator)).clamp(0, 255).byte()


def yellow(pixels: Tensor) -> Tensor:
    return (pixels.float() * torch.tensor([1.0, 0.85, 0.5])[:, None, None]).byte()


CHANGES: dict[str, Change] = {
    "blurred, sigma 2": partial(blurred, 2.0),
    "blurred, sigma 1": partial(blurred, 1.0),
    "brightness 40 %": partial(brighter, 0.4),
    "brightness 70 %": partial(brighter, 0.7),
    "brightness 160 %": partial(brighter, 1.6),
    "contrast 50 %": less_contrast,
    "JPEG quality 10": compressed,
    "noise": noisy,
    "yellow light": yellow,
}
FILE_CHANGES: dict[str, Change] = {
    "file blurred, sigma 2": partial(blurred, 2.0),
    "file JPEG quality 10": compressed,
    "file with noise": noisy,
}


class Case(NamedTuple):
    """A task, and a set that is none of it."""

    name: str
    own: Dataset
    other: str
    others: Pictures


def cases(root: Path, folder: Path) -> Iterator[Case]:
    """Open all sets, each with another one."""
    samples = {name: open_dataset(write_samples(name, folder / name), check=False) for name in ("textures", "digits")}
    yield Case("quickstart textures", samples["textures"], "quickstart digits", samples["digits"].test)
    yield Case("quickstart digits", samples["digits"], "quickstart textures", samples["textures"].test)
    for pair in list(pairs(root, folder / "pairs"))[1:]:
        name, _, other = pair.name.partition(" / ")
        yield Case(name.replace(": ", ", "), pair.own, other, pair.other)


def passed(source: Source, pictures: Pictures, change: Change | None = None) -> Passed:
    """Pass pictures that are changed after they are cropped: final features (n, D), appearance (n, A)."""
    if change is None:
        return pass_pictures(source, pictures)
    prepare, final, looks = eval_transform(source.preprocessing), [], []
    cropped = pictures if pictures.transform is not None else pictures.with_transform(prepare)
    with torch.no_grad():
        for start in range(0, len(pictures), 64):
            images = torch.stack([change(cropped[index][0]) for index in range(start, min(start + 64, len(pictures)))])
            final.append(source(images.contiguous(memory_format=torch.channels_last), frozenset()).final.float())
            looks.append(appearance(images))
    return Passed(torch.cat(final), torch.cat(looks))


def on_files(source: Source, pictures: Pictures, change: Change) -> Passed:
    """Pass pictures that are changed before they are cropped."""
    prepare = eval_transform(source.preprocessing)
    return passed(source, pictures.with_transform(lambda pixels: prepare(change(pixels))), lambda pixels: pixels)


def evenly(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Weigh all pictures alike: (n,) -> (n,)."""
    return torch.ones(len(labels))


def other_shares(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Give each class a random share: (n,) -> weights (n,)."""
    shares = torch.randn(int(labels.max()) + 1, generator=generator).square() / labels.bincount().clamp(min=1)
    return shares[labels] + 1e-9


def one_class(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Choose a class at random: (n,) -> weights (n,), 0 for all others."""
    classes = labels.unique()
    return (labels == classes[torch.randint(len(classes), (1,), generator=generator)]).float()


def judged(
    task: Familiarity, seen: Passed, labels: Tensor, weigh: Callable[..., Tensor] = evenly, draws: int = DRAWS
) -> dict[str, Any]:
    """Draw windows of each size, and count those that count as changed: -> {"images", size: {...} or None}."""
    reference, located = task.reference, task.locate(seen.final)
    assert reference is not None
    known, result = task.share(located.scores), {"images": len(labels)}
    for size in SIZES:
        drifts = []
        for draw in range(draws):
            generator = torch.Generator().manual_seed(draw)
            weights = weigh(labels, generator)
            if int((weights > 0).sum()) < size:
                continue
            order = torch.multinomial(weights, size, generator=generator)
            rows = (located.nearest[order], located.z[order], seen.appearance[order])
            drifts.append(Drift.from_differences(known[order].tolist(), reference.differences_of(*rows)))
        result[str(size)] = shares_of(drifts) if drifts else None
    return result


def left_out(learned: Passed, labels: Tensor) -> dict[str, Any]:
    """Fit to two thirds of the training pictures, and draw windows of the others: as `judged`, over `SPLITS` splits."""
    found = []
    for split in range(SPLITS):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(split))
        asked, kept = order.tensor_split([len(order) // 3])
        task = Familiarity.fit(learned.final[kept], labels[kept], split, learned.appearance[kept])
        assert task is not None
        seen = Passed(learned.final[asked], learned.appearance[asked])
        found.append(judged(task, seen, labels[asked], draws=DRAWS // SPLITS))
    mean: dict[str, Any] = {"images": found[0]["images"]}
    for size in map(str, SIZES):
        parts = [entry[size] for entry in found]
        mean[size] = parts[0] and {key: round(sum(part[key] for part in parts) / SPLITS, 4) for key in parts[0]}
    return mean


def shares_of(drifts: list[Drift]) -> dict[str, float]:
    """Share of windows that count as changed, by each part alone and by any, and the mean strength."""
    return {
        "changed": share([drift.has_changed for drift in drifts]),
        "distance alone": share([drift.has_changed and not (drift.content or drift.appearance) for drift in drifts]),
        "content": share([bool(drift.content) for drift in drifts]),
        "appearance": share([bool(drift.appearance) for drift in drifts]),
        "strength": round(sum(drift.strength for drift in drifts) / len(drifts), 4),
    }


def share(hits: list[bool]) -> float:
    return round(sum(hits) / len(hits), 4)


def measure(source: Source, case: Case) -> dict[str, Any]:
    """Keep the statistics of a task, and compare windows of all kinds with them."""
    own, learned = case.own, pass_pictures(source, case.own.train)
    task = Familiarity.fit(learned.final, own.train.labels[:, 0], 0, learned.appearance)
    assert task is not None
    labels, seen = own.test.labels[:, 0], passed(source, own.test)
    result = {
        "training pictures left out": left_out(learned, own.train.labels[:, 0]),
        "as it is": judged(task, seen, labels),
        "other shares of classes": judged(task, seen, labels, other_shares),
        "one class alone": judged(task, seen, labels, one_class),
    }
    for title, change in CHANGES.items():
        result[title] = judged(task, passed(source, own.test, change), labels)
    for title, change in FILE_CHANGES.items():
        result[title] = judged(task, on_files(source, own.test, change), labels)
    some = torch.randperm(len(case.others), generator=torch.Generator().manual_seed(0))[:MOST_OTHERS]
    others = case.others.subset(some.tolist())
    result[case.other] = judged(task, pass_pictures(source, others), torch.zeros(len(others), dtype=torch.int64))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds dtd10, ants_bees and cars196")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--tasks", default="", help="part of the names of the tasks to measure; by default all")
    parser.add_argument("--out", type=Path, required=True, help="results file; tasks that it holds are not run again")
    options = parser.parse_args()
    identity = {"image_size": options.image_size, "sizes": list(SIZES), "draws": DRAWS, "seed": 0}
    results = open_results(options.out, identity, {"tasks": {}})
    source = Source.embedded(options.image_size)
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(options.data, Path(folder)):
            if options.tasks in case.name and case.name not in results["tasks"]:
                results["tasks"][case.name] = measure(source, case)
                save_results(options.out, results)
                for title, entry in results["tasks"][case.name].items():
                    print(case.name, title, entry, flush=True)


if __name__ == "__main__":
    main()
