"""Do two frozen sources side by side know more about pictures than one that costs as much?

`python benchmarks/source_pairs.py --data DATA --cells dtd10:40 --sources embedded@192 embedded@128+embedded:lite1@128
--features FOLDER --out out.json` fits the start of SNOW in closed form to what one source, or two joined by +, give of
the same pictures, all with as many numbers, and measures it on all test pictures. Cells are those of `regimes.py`;
training pictures are drawn by seed. NAME=FILE@SIZE is a model of timm and its weights. Each pair is compared with that
single source which left-out training pictures prefer among those that take no more multiplications. Features are kept
in `--features`; what that folder and `--out` already hold is not computed again.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from regimes import Cell, open_cell
from sources import batches
from torch import Tensor

from snow.cli.output import note, print_json
from snow.delta import SnowConfig, find_start
from snow.delta.pass_rows import FINAL_BLOCK, PassRows
from snow.delta.start import Start
from snow.experiments.bench.arithmetic import count_multiplications
from snow.experiments.rank.rank import BATCH, open_named
from snow.experiments.results.record import open_results, provenance, save_results
from snow.inference.fused import fuse_for_inference
from snow.methods import METHODS
from snow.methods.calibration_rows import CalibrationRows
from snow.methods.snow import Snow
from snow.process.startup import keep_freed_memory
from snow.source import Source

TOLERANCE = 1.05
"""A single source costs as much as a pair up to this many times its multiplications."""

SECONDS = 1.0
"""Least time of the processor for which the speed of a source is measured."""


def label_of(text: str) -> str:
    """Name a source or a pair without the files of its weights."""
    return "+".join(re.sub(r"=.*@", "@", part) for part in text.split("+"))


def open_sized(text: str) -> Source:
    """Open NAME@SIZE or NAME=FILE@SIZE."""
    name, _, size = text.rpartition("@")
    return open_named(name, int(size))


@torch.no_grad()
def cost(source: Source) -> dict[str, float]:
    """Count multiplications for a picture, and the processor's time for passes of a batch, the least of them."""
    side, fused = source.preprocessing.image_size, fuse_for_inference(source)
    pictures = torch.zeros(BATCH, 3, side, side, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    times, end = list[float](), time.process_time() + SECONDS  # that of other programs does not count
    while len(times) < 2 or time.process_time() < end:
        started = time.process_time()
        fused(pictures)
        times.append(time.process_time() - started)
    count = count_multiplications(source, {})["source"]
    return {"multiplications": count, "seconds_per_picture": min(times) / BATCH}


def features_of(text: str, cell: Cell, data: Path, folder: Path) -> dict[str, CalibrationRows]:
    """Give what one source says of all "train" and "test" pictures of a cell's classes."""
    file = folder / f"{cell.name}-{cell.classes or 'all'}-{label_of(text).replace(':', '-')}.pt"
    if not file.exists():
        note(f"{label_of(text)} on {cell.name} …")
        source, subset = open_sized(text), Cell(cell.name, cell.classes, None).subset(open_cell(cell, data, folder), 0)
        method, fused = METHODS["snow"].build(source, len(subset.tasks[0].classes)), fuse_for_inference(source)
        assert isinstance(method, Snow)
        taps, answers = [level.tap for level in method.plan.levels], source.num_classes > 1
        parts = {
            name: vars(CalibrationRows.of(batches(fused, method, pictures), taps, 1, answers))
            for name, pictures in (("train", subset.train), ("test", subset.test))
        }
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(parts, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)
    return {name: CalibrationRows(**values) for name, values in torch.load(file).items()}


def side_by_side(all_rows: Sequence[CalibrationRows], classes: int, chosen: Tensor) -> PassRows:
    """Join what sources say of the same chosen pictures (k,)."""
    answers = [rows.answers for rows in all_rows if rows.answers is not None]
    joined = CalibrationRows(
        torch.cat([rows.final for rows in all_rows], 2)[:, chosen],
        torch.cat(answers, 2)[:, chosen] if answers else None,
        {f"{i} {tap}": values[:, chosen] for i, rows in enumerate(all_rows) for tap, values in rows.moments.items()},
        all_rows[0].label[chosen],
    )
    rows = joined.pass_rows(classes)
    sizes = [one.final.shape[2] for one in all_rows]
    return rows._replace(parts={**rows.parts, FINAL_BLOCK: sizes})  # final features of each have a scale of their own


def drawn(label: Tensor, per_class: int | None, seed: int) -> Tensor:
    """Draw training pictures of each class: (n,) -> (k,) indices, ascending."""
    generator = torch.Generator().manual_seed(1000 + seed)
    chosen = []
    for value in label.unique().tolist():
        members = (label == value).nonzero().flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)][:per_class])
    return torch.cat(chosen).sort().values


def top1(start: Start, rows: PassRows) -> float:
    """Measure a start on other pictures."""
    x = torch.cat([values[0] for values in rows.blocks.values()], 1).index_select(1, start.index).float()
    logits = ((x - start.centre) * start.gain) @ start.weight.T
    logits = (logits if start.expand is None else logits @ start.expand.T) + start.bias
    return float((logits.argmax(1) == rows.label).double().mean())


def fitted(all_features: Sequence[Mapping[str, CalibrationRows]], cell: Cell, budget: int, seed: int) -> dict[str, Any]:
    """Fit the start to the training pictures of a seed, and measure it on all test pictures."""
    label = all_features[0]["train"].label
    classes = int(label.max()) + 1
    chosen = drawn(label, cell.per_class, seed)
    start = find_start(side_by_side([one["train"] for one in all_features], classes, chosen), budget)
    everything = torch.arange(len(all_features[0]["test"].label))
    measured = top1(start, side_by_side([one["test"] for one in all_features], classes, everything))
    best = start.evidence["chosen"]
    left_out = {"left_out_accuracy": best["accuracy"], "left_out_loss": best["loss"]}
    return {"top1": measured, **left_out, "numbers": best["numbers"], "inputs": best["inputs"]}


def multiplications(label: str, costs: Mapping[str, Mapping[str, float]]) -> float:
    """Add up those of the sources of a pair."""
    return sum(costs[part]["multiplications"] for part in label.split("+"))


def leads(entry: Mapping[str, Any], costs: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Compare each pair with the single source that left-out pictures prefer at its cost: points on test pictures."""
    runs = {label: [found[seed] for seed in sorted(found)] for label, found in entry["runs"].items()}
    singles = [label for label in runs if "+" not in label]
    found = {}
    for pair in runs.keys() - singles:
        limit = TOLERANCE * multiplications(pair, costs)
        rivals = [label for label in singles if multiplications(label, costs) <= limit]
        rivals = [label for label in rivals if len(runs[label]) == len(runs[pair])]
        if rivals:
            rival = max(rivals, key=lambda label: mean(run["left_out_accuracy"] for run in runs[label]))
            points = [100 * (a["top1"] - b["top1"]) for a, b in zip(runs[pair], runs[rival], strict=True)]
            found[pair] = {"against": rival, "points": [round(value, 2) for value in points]}
    return {label: found[label] for label in runs if label in found}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every source and pair on every cell with every seed, and save after each."""
    budget = round(SnowConfig().budget * Source.embedded(64).learned_parameters)
    results: dict[str, Any] = open_results(options.out, {"budget": budget}, {"source_pairs": {}, "costs": {}})
    results |= provenance()
    results["command"] = re.sub(r"=\S*/", "=", results["command"])  # no folders of this machine
    costs = results["costs"]
    for part in {part: None for text in options.sources for part in text.split("+")}:
        if label_of(part) not in costs:
            costs[label_of(part)] = cost(open_sized(part))
            save_results(options.out, results)
    for text in options.cells:
        cell = Cell.parse(text)
        entry = results["source_pairs"].setdefault(text, {"runs": {}})
        for source in options.sources:
            runs = entry["runs"].setdefault(label_of(source), {})
            missing = [seed for seed in range(options.seeds) if str(seed) not in runs]
            if not missing:
                continue
            note(f"{text}, {label_of(source)} …")
            features = [features_of(part, cell, options.data, options.features) for part in source.split("+")]
            for seed in missing:
                runs[str(seed)] = fitted(features, cell, budget, seed)
            label = features[0]["train"].label
            entry |= {"train": len(drawn(label, cell.per_class, 0)), "test": len(features[0]["test"].label)}
            entry |= {"classes": int(label.max()) + 1, "leads": leads(entry, costs)}
            save_results(options.out, results)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--cells", nargs="+", required=True)
    parser.add_argument("--sources", nargs="+", required=True)
    parser.add_argument("--features", type=Path, required=True, help="folder that keeps what the sources say")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    keep_freed_memory()
    print_json(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
