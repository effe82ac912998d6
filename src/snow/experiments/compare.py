"""What a training step of a method costs: pictures a second and memory, each method in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Self

from snow.data import Dataset
from snow.errors import SnowError
from snow.experiments.bench import setup as stand
from snow.experiments.bench.setup import Conditions
from snow.experiments.results.record import begin, keep
from snow.experiments.results.table import Spread
from snow.hub import Artifact
from snow.methods import METHODS, Method
from snow.methods.variant import Variant
from snow.process.subprocesses import in_subprocess, interleaved
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.checkpoint import data_digest
from snow.training.fit import fit
from snow.training.listeners import Listener

ROUNDS = 3
"""Times that each method is measured, in turn with the others."""


@dataclass(frozen=True)
class TrainingCost:
    """The median over rounds and their range.

    Attributes:
        images_per_second: with pictures that are in memory already.
        peak_memory_bytes: of the GPU's allocator, or of the process above what it had before the source was built.
    """

    images_per_second: float
    images_per_second_range: tuple[float, float]
    peak_memory_bytes: int

    @classmethod
    def of(cls, samples: Sequence[stand.StepCost]) -> Self:
        speed = Spread.of(sample.images_per_second for sample in samples)
        memory = Spread.of(sample.peak_memory_bytes for sample in samples)
        return cls(speed.median, speed.range, int(memory.median))


def measure(conditions: Conditions, methods: Sequence[Variant]) -> dict[str, TrainingCost]:
    """Trains each method for a few steps on random pictures; the weights of the source do not matter here."""
    calls = {variant.label: partial(stand.training_cost, conditions, variant.build) for variant in methods}
    *_, samples = interleaved(calls, ROUNDS)
    return {label: TrainingCost.of(found) for label, found in samples.items()}


def measure_once(conditions: Conditions, method: Variant) -> stand.StepCost:
    """One round of one method."""
    return in_subprocess(method.label, partial(stand.training_cost, conditions, method.build))


RATES = (3e-4, 1e-3, 3e-3)
HELD_OUT = 0.25


@dataclass(frozen=True)
class Comparison:
    """What to compare, and on what.

    Attributes:
        methods: what is compared, see `Variant`.
        rates: learning rates that each method may choose from, in the place of the recipe's; a method's own factors
            (`Method.lr_scale`, `Method.rate`) apply. A single one is taken as it is.
        seeds: each method is trained with each of them.
        held_out: fraction of the training pictures on which the rate is chosen; the test pictures are seen once.
        costs: measure images/s and memory too.
        runtime: of each run.
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


def compare(
    work: Comparison,
    about: Mapping[str, Any] | None = None,
    out: Path | None = None,
    listeners: Callable[[str], Sequence[Listener]] = lambda _: (),
) -> dict[str, Any]:
    """Runs a comparison and returns its results as JSON values.

    Args:
        about: what the results should say of the data.
        out: file that holds what is done so far; a second call with the same arguments goes on from it.
        listeners: for a stage with this name.

    Raises:
        SnowError: `out` holds another comparison; and as `fit`.
    """
    results = begin(out, _settings(work, about), {"methods": {}})
    entries = {variant.label: results["methods"].setdefault(variant.label, {}) for variant in work.methods}
    for group in _groups(work):
        names = ", ".join(variant.label for variant in group)
        untuned = [variant for variant in group if "lr" not in entries[variant.label]]
        if untuned:
            tunings = _tune(work, untuned, listeners(f"{names}: rates")) if len(work.rates) > 1 else {}
            for variant in untuned:
                tuning = tunings.get(variant.label, {f"{work.rates[0]:g}": None})
                best = max(tuning, key=lambda rate: tuning[rate] or 0.0)
                entries[variant.label] |= {"tuning": tuning, "lr": float(best), "runs": {}}
            keep(out, results)
        for seed in work.seeds:
            missing = [variant for variant in group if str(seed) not in entries[variant.label]["runs"]]
            if missing:
                rates = {variant.label: entries[variant.label]["lr"] for variant in missing}
                for label, run in _run(work, missing, rates, seed, listeners(f"{names}: seed {seed}")).items():
                    entries[label]["runs"][str(seed)] = run
                keep(out, results)
    for entry in entries.values():
        entry.update(_summary(list(entry["runs"].values())))
    if work.costs and any("images_per_second" not in results["methods"][one.label] for one in work.methods):
        size, classes = work.source.preprocessing.image_size, len(work.dataset.tasks[0].classes)
        listeners(f"{', '.join(entries)}: images/s and memory")
        for label, cost in measure(
            Conditions(work.source.architecture, size, classes, work.recipe, work.runtime), work.methods
        ).items():
            results["methods"][label].update(asdict(cost))
    keep(out, results)
    return results


def _settings(work: Comparison, about: Mapping[str, Any] | None) -> dict[str, Any]:
    """What figures must have in common to stand in one file."""
    return {
        "source": work.source.description(),
        "data": {**(about or {}), "fingerprint": data_digest(work.dataset)},
        "recipe": work.recipe.resolved(work.runtime.cache is not None).to_dict(),
        "rates": list(work.rates),
        "held_out": work.held_out,
    }


def _groups(work: Comparison) -> list[list[Variant]]:
    """Methods that look at the source learn side by side on one pass of it, each of the others alone."""
    together = [variant for variant in work.methods if METHODS[variant.method].uses_source]
    alone = [[variant] for variant in work.methods if not METHODS[variant.method].uses_source]
    return [*([together] if together else []), *alone]


def _tune(
    work: Comparison, variants: Sequence[Variant], listeners: Sequence[Listener]
) -> dict[str, dict[str, float | None]]:
    """Label -> rate -> accuracy on held-out training pictures."""
    seed = work.recipe.seed
    dataset = work.dataset.held_out(work.held_out, seed)
    learners = {
        f"{variant.label} {rate:g}": _built(work, variant, rate, seed) for variant in variants for rate in work.rates
    }
    metrics = fit(work.source, learners, dataset, work.recipe, runtime=work.runtime, listeners=listeners).metrics
    return {
        variant.label: {f"{rate:g}": metrics[f"{variant.label} {rate:g}"].top1 for rate in work.rates}
        for variant in variants
    }


def _run(
    work: Comparison, variants: Sequence[Variant], rates: Mapping[str, float], seed: int, listeners: Sequence[Listener]
) -> dict[str, dict[str, Any]]:
    """Label -> what training on all training pictures gave on the test pictures."""
    task = work.dataset.tasks[0]
    learners = {variant.label: _built(work, variant, rates[variant.label], seed) for variant in variants}
    recipe = replace(work.recipe, seed=seed)
    fitted = fit(work.source, learners, work.dataset, recipe, runtime=work.runtime, listeners=listeners)
    runs = {}
    for label, method in fitted.learners.items():
        served = method.export_form()
        records = [record for record in fitted.history if record.learner == label]
        validated = [record.validation for record in records if record.validation is not None]
        runs[label] = {
            **fitted.metrics[label].to_dict(),
            "learned_parameters": served.learned_parameters,
            "artifact_bytes": Artifact(task.name, task.classes, served, work.source.description()).size,
            "seconds": round(sum(record.seconds for record in records), 1),
            "curve": [round(record.accuracy, 4) for record in records],
            **({"validation": [round(one, 4) for one in validated]} if validated else {}),
        }
    return runs


def _built(work: Comparison, variant: Variant, rate: float, seed: int) -> Method:
    return variant.start(work.source, len(work.dataset.tasks[0].classes), seed, rate / work.recipe.lr)


def _summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    spread = {"top1_std": stdev(run["top1"] for run in runs)} if len(runs) > 1 else {}
    return {
        "top1": mean(run["top1"] for run in runs),
        **spread,
        "top5": mean(run["top5"] for run in runs),
        "learned_parameters": runs[0]["learned_parameters"],
        "artifact_bytes": runs[0]["artifact_bytes"],
    }
