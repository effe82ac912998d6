"""Compare methods on one task: accuracy, speed, memory and size, each method with its own learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from snow.data import Dataset
from snow.errors import SnowError
from snow.experiments.results.figures import figure_cell, figure_title, kind_entry, mean_figures, shown_figures
from snow.experiments.results.record import open_results, save_results
from snow.experiments.results.table import markdown_table, origin
from snow.experiments.step_cost import BenchConditions, measure_training_costs
from snow.hub import Artifact
from snow.kinds import Figure, LabelKind
from snow.methods import METHODS, Method
from snow.methods.variant import Variant
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.checkpoint import data_digest
from snow.training.fit import fit
from snow.training.listeners import Listener
from snow.training.train import require_kind

RATES = (3e-4, 1e-3, 3e-3)
"""Learning rates that each method chooses from."""

HELD_OUT = 0.25
"""Fraction of the training images on which learning rates and options are compared."""

COSTS = ("lr", "images/s", "peak memory MB", "learned parameters", "on disk MB")
"""Columns behind the figures."""


@dataclass(frozen=True)
class Comparison:
    """What to compare, and on which data.

    Attributes:
        methods: the methods, each with its options.
        rates: learning rates to choose from, in place of the recipe's. A method's own factors (`Method.lr_scale`,
            `Method.rate`) apply on top. A single rate is used without a search.
        seeds: each method is trained once per seed.
        held_out: fraction of the training images used to choose the rate. The test images are used once, at the end.
        costs: measure images/s and memory, too.
        runtime: of each training run.

    Raises:
        SnowError: the data has several tasks, or there is no method, rate or seed.
    """

    source: Source
    dataset: Dataset
    recipe: Recipe
    methods: tuple[Variant, ...]
    rates: tuple[float, ...] = RATES
    seeds: tuple[int, ...] = (0,)
    held_out: float = HELD_OUT
    costs: bool = True
    runtime: Runtime = Runtime()  # noqa: RUF009  frozen

    def __post_init__(self) -> None:
        if len(self.dataset.tasks) != 1:
            raise SnowError("methods are compared on one task: name one label column")
        if not self.methods or not self.rates or not self.seeds:
            raise SnowError("a comparison needs at least one method, one learning rate and one seed")

        for variant in self.methods:
            require_kind(METHODS[variant.method], self.kind)

    @property
    def kind(self) -> LabelKind:
        return self.dataset.tasks[0].kind

    @property
    def num_classes(self) -> int:
        return self.kind.outputs


def run_comparison(
    comparison: Comparison,
    about: Mapping[str, Any] | None = None,
    out: Path | None = None,
    listeners: Callable[[str], Sequence[Listener]] = lambda _: (),
) -> dict[str, Any]:
    """Choose a learning rate per method, train it with each seed, measure it, and return JSON values.

    Args:
        about: a description of the data, for the results.
        out: results file, saved after every stage; a second call with the same arguments continues it.
        listeners: makes the listeners of a stage from its name.

    Raises:
        SnowError: `out` holds another comparison; and as `fit`.
    """
    results = open_results(out, _identity(comparison, about), {"methods": {}})
    entries = {variant.label: results["methods"].setdefault(variant.label, {}) for variant in comparison.methods}
    for group in _groups(comparison):
        names = ", ".join(variant.label for variant in group)
        if untuned := [variant for variant in group if "lr" not in entries[variant.label]]:
            for label, tuning in _tune(comparison, untuned, listeners).items():
                best = max(tuning, key=lambda rate: _or_lowest(tuning[rate]))
                entries[label] |= {"tuning": tuning, "lr": float(best), "runs": {}}
            save_results(out, results)
        for seed in comparison.seeds:
            missing = [variant for variant in group if str(seed) not in entries[variant.label]["runs"]]
            if missing:
                rates = {variant.label: entries[variant.label]["lr"] for variant in missing}
                for label, run in _run(comparison, missing, rates, seed, listeners(f"{names}: seed {seed}")).items():
                    entries[label]["runs"][str(seed)] = run
                save_results(out, results)
    for entry in entries.values():
        entry.update(_summary(comparison.kind, list(entry["runs"].values())))
    if comparison.costs and any("images_per_second" not in entry for entry in entries.values()):
        listeners(f"{', '.join(entries)}: images/s and memory")
        source = comparison.source
        size, classes = source.preprocessing.image_size, comparison.num_classes
        conditions = BenchConditions(source.architecture, size, classes, comparison.recipe, comparison.runtime)
        for label, cost in measure_training_costs(conditions, comparison.methods).items():
            entries[label].update(asdict(cost))
    save_results(out, results)
    return results


def columns(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the columns of a comparison: the method, what its kind of label is measured by, and costs."""
    return ("method", *map(figure_title, shown_figures(results)), *COSTS)


def rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lay a comparison out as rows under its `columns`, one per method."""
    figures = shown_figures(results)
    return [(label, *_cells(entry, figures)) for label, entry in results["methods"].items() if figures[0].key in entry]


def markdown(results: Mapping[str, Any]) -> str:
    """Write the table of a comparison, and the line on its origin."""
    seeds = {seed for entry in results["methods"].values() for seed in entry.get("runs", {})}
    return f"{markdown_table(columns(results), rows(results))}\n{origin(results, sorted(seeds))}"


def _identity(comparison: Comparison, about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Collect the values that all figures of one results file share."""
    return {
        "source": comparison.source.description(),
        "data": {**(about or {}), "fingerprint": data_digest(comparison.dataset)},
        "recipe": comparison.recipe.resolved(comparison.runtime.cache is not None).to_dict(),
        "rates": list(comparison.rates),
        "held_out": comparison.held_out,
        **kind_entry(comparison.kind),
    }


def _groups(comparison: Comparison) -> list[list[Variant]]:
    """Group the methods by training run: those that use the source share one, every other has its own."""
    on_source = [variant for variant in comparison.methods if METHODS[variant.method].uses_source]
    others = [[variant] for variant in comparison.methods if not METHODS[variant.method].uses_source]
    return [*([on_source] if on_source else []), *others]


def _tune(
    comparison: Comparison, variants: Sequence[Variant], listeners: Callable[[str], Sequence[Listener]]
) -> dict[str, dict[str, float | None]]:
    """Train each method with each rate; return label -> rate -> score on the held-out training images."""
    if len(comparison.rates) == 1:
        return {variant.label: {f"{comparison.rates[0]:g}": None} for variant in variants}
    seed = comparison.recipe.seed
    dataset = comparison.dataset.held_out(comparison.held_out, seed)
    learners = {
        f"{variant.label} {rate:g}": _build(comparison, variant, rate, seed)
        for variant in variants
        for rate in comparison.rates
    }
    stage = f"{', '.join(variant.label for variant in variants)}: learning rates"
    metrics = fit(
        comparison.source,
        learners,
        dataset,
        comparison.recipe,
        runtime=comparison.runtime,
        listeners=listeners(stage),
    ).metrics
    return {
        variant.label: {f"{rate:g}": metrics[f"{variant.label} {rate:g}"].score for rate in comparison.rates}
        for variant in variants
    }


def _or_lowest(score: float | None) -> float:
    return -math.inf if score is None else score


def _run(
    comparison: Comparison,
    variants: Sequence[Variant],
    rates: Mapping[str, float],
    seed: int,
    listeners: Sequence[Listener],
) -> dict[str, dict[str, Any]]:
    """Train methods on all training images with one seed; return label -> results on the test images."""
    task, recipe = comparison.dataset.tasks[0], replace(comparison.recipe, seed=seed)
    learners = {variant.label: _build(comparison, variant, rates[variant.label], seed) for variant in variants}
    fitted = fit(
        comparison.source, learners, comparison.dataset, recipe, runtime=comparison.runtime, listeners=listeners
    )
    runs = {}
    for label, method in fitted.learners.items():
        exported = method.export_form()
        records = [record for record in fitted.history if record.learner == label]
        validated = [record.validation for record in records if record.validation is not None]
        runs[label] = {
            **fitted.metrics[label].to_dict(),
            "learned_parameters": exported.learned_parameters,
            "artifact_bytes": Artifact(
                task.name, task.classes, exported, comparison.source.description(), labels=task.kind
            ).size,
            "seconds": round(sum(record.seconds for record in records), 1),
            "curve": [round(record.accuracy, 4) for record in records],
            **({"evidence": fitted.evidence[label]} if label in fitted.evidence else {}),
            **({"validation": [round(accuracy, 4) for accuracy in validated]} if validated else {}),
        }
    return runs


def _build(comparison: Comparison, variant: Variant, rate: float, seed: int) -> Method:
    return variant.start(comparison.source, comparison.num_classes, seed, rate / comparison.recipe.lr)


def _summary(kind: LabelKind, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        **mean_figures(kind.figures, runs),
        "learned_parameters": runs[0]["learned_parameters"],
        "artifact_bytes": runs[0]["artifact_bytes"],
    }


def _cells(entry: Mapping[str, Any], figures: Sequence[Figure]) -> tuple[str, ...]:
    speed = f"{entry['images_per_second']:.0f}" if "images_per_second" in entry else "–"
    memory = f"{entry['peak_memory_bytes'] / 1e6:.0f}" if "peak_memory_bytes" in entry else "–"
    return (
        *(figure_cell(entry, figure) for figure in figures),
        f"{entry['lr']:g}",
        speed,
        memory,
        f"{entry['learned_parameters']:,}",
        f"{entry['artifact_bytes'] / 1e6:.2f}",
    )
