"""Table 8: speed and memory of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from snow.experiments import compare as cost
from snow.experiments.bench import setup as stand
from snow.experiments.bench.setup import Conditions
from snow.experiments.reproduce import estimate, table7
from snow.experiments.reproduce.accuracy import LITERAL
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.panel import Pair, Panel
from snow.experiments.reproduce.paper import CLASSES, LF_MEMORY, LF_THROUGHPUT, SETS, TABLE8
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.record import begin, keep
from snow.experiments.results.table import circumstances
from snow.methods.variant import Variant

CAR = SETS.index("Car")
ROWS = {**table7.ROWS, "lf": "LF"}
STEPS = 10
"""About so many a round, with what it takes to start."""

START = 15
"""Seconds that a process takes to start."""


class Table8(Experiment):
    name = "table8"
    title = "Table 8: speed and memory of training"
    differs = (
        "The paper gave each method the batch that filled its GPU, so its memory figures are of different batches and "
        "say little beside each other; here all have the same batch. Weights are random, which changes no speed. "
        "Pictures are in memory already. Columns of the paper differ by the number of classes alone, and hardly: "
        "measured is that of Car. On a CPU, memory is that of the process above what it held before the source was "
        "built. Compare ratios: absolute speeds belong to the hardware and, with `precision` auto, to half precision "
        "where that is fast."
    )
    methods = f"fo,fe,ft,mp,pn,{LITERAL},snow"
    needs_data = False

    def costs(self, work: ReproductionSettings) -> list[TimeEstimate]:
        return costs(work, self.variants(work))

    def run(self, work: ReproductionSettings) -> dict[str, Any]:
        return measured(work, self.variants(work))

    def origins(self, results: Results) -> list[str]:
        recipe = results["recipe"]
        return [
            f"`{results['command']}`: {results['architecture']} at {results['image_size']} px, {results['classes']} "
            f"classes, batch {recipe['batch_size']}, precision {recipe['precision']}; {circumstances(results)}.\n"
        ]

    def panels(self, results: Results) -> list[Panel]:
        paper = {row: figures[CAR] for row, figures in TABLE8.items()} | {"LF": (LF_THROUGHPUT, LF_MEMORY)}
        speeds = {label: entry["images_per_second"] for label, entry in results["methods"].items()}
        memory = {label: entry["peak_memory_bytes"] / 1e9 for label, entry in results["methods"].items()}
        panels = [Panel("training, images/s", _beside({row: speed for row, (speed, _) in paper.items()}, speeds))]
        if reference := speeds.get("ft"):
            relative = {row: speed / paper["FT"][0] for row, (speed, _) in paper.items()}
            here = {label: speed / reference for label, speed in speeds.items()}
            panels.append(Panel("images/s, FT = 1", _beside(relative, here), digits=2))
        return [
            *panels,
            Panel("memory, GB", _beside({row: size for row, (_, size) in paper.items()}, memory), digits=2),
        ]


def measured(work: ReproductionSettings, variants: tuple[Variant, ...]) -> dict[str, Any]:
    """Measure what each variant costs, and keep it in a file for this source and picture size."""
    results = _begin(work)
    conditions = Conditions(work.bare, work.image_size, CLASSES[CAR], work.recipe, work.runtime)
    samples = {one.label: results["samples"].setdefault(one.label, []) for one in variants}
    for number in range(1, cost.ROUNDS + 1):
        for variant in variants:
            if len(samples[variant.label]) < number:
                work.note(f"round {number} of {cost.ROUNDS}: training steps of {variant.label} …")
                samples[variant.label].append(asdict(cost.measure_once(conditions, variant)))
                keep(_file(work), results)
    return {**results, "methods": {label: asdict(_cost(found)) for label, found in samples.items()}}


def costs(work: ReproductionSettings, variants: tuple[Variant, ...]) -> list[TimeEstimate]:
    """Of what `measured` would still do."""
    done = _begin(work)["samples"]
    shape = (work.bare, work.image_size, work.recipe.precision)
    pictures = STEPS * work.recipe.batch_size
    found = []
    for one in variants:
        rounds = cost.ROUNDS - len(done.get(one.label, []))
        if rounds > 0:
            found.append(TimeEstimate(one.label, rounds * (START + pictures * estimate.step_seconds(one, *shape))))
    return found


def _cost(samples: list[dict[str, Any]]) -> cost.TrainingCost:
    return cost.TrainingCost.of([stand.StepCost(**sample) for sample in samples])


def _beside(paper: Mapping[str, float], here: Mapping[str, float]) -> dict[str, Pair]:
    rows: dict[str, Pair] = {label: (paper.get(ROWS.get(label, "")), figure) for label, figure in here.items()}
    if "SNOW-256" in {ROWS.get(label) for label in here}:
        rows["SNOW-128, paper only"] = (paper["SNOW-128"], None)
    return rows


def _begin(work: ReproductionSettings) -> dict[str, Any]:
    settings = {
        "architecture": _architecture(work),
        "image_size": work.image_size,
        "classes": CLASSES[CAR],
        "recipe": work.recipe.to_dict(),
    }
    return begin(_file(work), settings, {"samples": {}})


def _file(work: ReproductionSettings) -> Path:
    return work.folder / "steps" / f"{_architecture(work).replace('/', '-')}-{work.image_size}.json"


def _architecture(work: ReproductionSettings) -> str:
    """Under one name, whether it was named by the user or by a source."""
    return work.bare.removeprefix("timm/")
