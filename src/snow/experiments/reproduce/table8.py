"""Table 8: speed and memory of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from snow.experiments.reproduce import estimate, table7
from snow.experiments.reproduce.accuracy import PAPER_VARIANT
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.panel import Pair, Panel
from snow.experiments.reproduce.paper import CLASSES, LF_MEMORY, LF_THROUGHPUT, SETS, TABLE8
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.record import open_results, save_results
from snow.experiments.results.table import environment
from snow.experiments.step_cost import ROUNDS, BenchConditions, StepCost, TrainingCost, measure_step
from snow.methods.variant import Variant

CAR = SETS.index("Car")
ROWS = {**table7.ROWS, "lf": "LF"}
STEPS = 10
"""Steps per round including the warm-up, roughly."""

START = 15
"""Seconds to start a process, roughly."""


class Table8(Experiment):
    name = "table8"
    title = "Table 8: speed and memory of training"
    deviations = (
        "The paper gives each method the batch size that fills its GPU, so its memory figures are at different batch "
        "sizes; here all methods have the same. Weights are random, which does not change the speed, and images are "
        "in memory. The paper's columns differ only in the number of classes, and hardly at all: Car is measured "
        "here. On a CPU, memory is that of the process above what it held before the source was built. Compare "
        "ratios: absolute speeds depend on the hardware, and `precision` auto computes in half precision where that "
        "is fast."
    )
    methods = f"fo,fe,ft,mp,pn,{PAPER_VARIANT},snow"
    needs_data = False

    def estimates(self, settings: ReproductionSettings) -> list[TimeEstimate]:
        return estimate_steps(settings, self.variants(settings))

    def run(self, settings: ReproductionSettings) -> dict[str, Any]:
        return measure_steps(settings, self.variants(settings))

    def origins(self, results: Results) -> list[str]:
        recipe = results["recipe"]
        return [
            f"`{results['command']}`: {results['architecture']} at {results['image_size']} px, {results['classes']} "
            f"classes, batch {recipe['batch_size']}, precision {recipe['precision']}; {environment(results)}.\n"
        ]

    def panels(self, results: Results) -> list[Panel]:
        paper = {row: figures[CAR] for row, figures in TABLE8.items()} | {"LF": (LF_THROUGHPUT, LF_MEMORY)}
        speeds = {label: entry["images_per_second"] for label, entry in results["methods"].items()}
        memory = {label: entry["peak_memory_bytes"] / 1e9 for label, entry in results["methods"].items()}
        panels = [Panel("training, images/s", _pairs({row: speed for row, (speed, _) in paper.items()}, speeds))]
        if reference := speeds.get("ft"):
            relative = {row: speed / paper["FT"][0] for row, (speed, _) in paper.items()}
            here = {label: speed / reference for label, speed in speeds.items()}
            panels.append(Panel("images/s, FT = 1", _pairs(relative, here), digits=2))
        return [
            *panels,
            Panel("memory, GB", _pairs({row: size for row, (_, size) in paper.items()}, memory), digits=2),
        ]


def measure_steps(settings: ReproductionSettings, variants: tuple[Variant, ...]) -> dict[str, Any]:
    """Measure each method, and save the samples in a file for this source and image size."""
    results = _begin(settings)
    conditions = BenchConditions(
        settings.architecture, settings.image_size, CLASSES[CAR], settings.recipe, settings.runtime
    )
    samples = {variant.label: results["samples"].setdefault(variant.label, []) for variant in variants}
    for number in range(1, ROUNDS + 1):
        for variant in variants:
            if len(samples[variant.label]) < number:
                settings.log(f"round {number} of {ROUNDS}: training steps of {variant.label} …")
                samples[variant.label].append(asdict(measure_step(conditions, variant)))
                save_results(_file(settings), results)
    return {**results, "methods": {label: asdict(_cost(rounds)) for label, rounds in samples.items()}}


def estimate_steps(settings: ReproductionSettings, variants: tuple[Variant, ...]) -> list[TimeEstimate]:
    """Estimate what `measure_steps` still has to do."""
    done = _begin(settings)["samples"]
    shape = (settings.architecture, settings.image_size, settings.recipe.precision)
    images = STEPS * settings.recipe.batch_size
    left = []
    for variant in variants:
        rounds = ROUNDS - len(done.get(variant.label, []))
        if rounds > 0:
            seconds = rounds * (START + images * estimate.step_seconds(variant, *shape))
            left.append(TimeEstimate(variant.label, seconds))
    return left


def _cost(samples: list[dict[str, Any]]) -> TrainingCost:
    return TrainingCost.of([StepCost(**sample) for sample in samples])


def _pairs(paper: Mapping[str, float], here: Mapping[str, float]) -> dict[str, Pair]:
    rows: dict[str, Pair] = {label: (paper.get(ROWS.get(label, "")), figure) for label, figure in here.items()}
    if "SNOW-256" in {ROWS.get(label) for label in here}:
        rows["SNOW-128, paper only"] = (paper["SNOW-128"], None)
    return rows


def _begin(settings: ReproductionSettings) -> dict[str, Any]:
    identity = {
        "architecture": _architecture(settings),
        "image_size": settings.image_size,
        "classes": CLASSES[CAR],
        "recipe": settings.recipe.to_dict(),
    }
    return open_results(_file(settings), identity, {"samples": {}})


def _file(settings: ReproductionSettings) -> Path:
    return settings.folder / "steps" / f"{_architecture(settings).replace('/', '-')}-{settings.image_size}.json"


def _architecture(settings: ReproductionSettings) -> str:
    """Name the architecture alike, whether the user or a source names it."""
    return settings.architecture.removeprefix("timm/")
