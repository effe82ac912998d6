"""Compare methods on every available dataset: shared by Tables 6 and 7 and Figures 4 and 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import stdev
from typing import Any

from snow.experiments.compare import Comparison, run_comparison
from snow.experiments.reproduce import estimate
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.paper import SIGMA2
from snow.experiments.reproduce.sets import OpenedSet, title
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.table import origin
from snow.methods.variant import Variant
from snow.store import read_json

PAPER_VARIANT = "snow:preset=paper"
"""Algorithm 1 to the letter."""

PER_CHANNEL_VARIANT = f"{PAPER_VARIANT}:pooling.slots=channel"
"""Algorithm 1, but each source channel keeps a weight column of its own during training. Same network at inference."""

ZERO_VARIANT = "snow:start=zero"
"""What `snow` was in version 0.2.0."""

METHODS = f"fo,fe,ft,mp,pn,{PAPER_VARIANT},{PER_CHANNEL_VARIANT},snow"
"""Methods of Table 7 and of the experiments made from it."""


def run_comparisons(
    settings: ReproductionSettings, variants: Sequence[Variant], subfolder: str = "comparisons"
) -> list[dict[str, Any]]:
    """Run one comparison per dataset; return its description with the results under `comparison`.

    Args:
        subfolder: for the results file of each dataset. Experiments with the same recipe share it.
    """
    entries = []
    for opened in settings.sets:
        fitting = _fitting(opened, variants)
        out = settings.folder / subfolder / f"{opened.location.key}.json"
        results = run_comparison(
            _comparison(settings, opened, fitting), _about(opened), out, _listeners(settings, opened)
        )
        methods = {
            label: results["methods"][variant.label] for label, variant in zip(_labels(variants), fitting, strict=True)
        }
        entries.append({**opened.to_dict(), "comparison": {**results, "methods": methods}})
    return entries


def estimates(
    settings: ReproductionSettings, variants: Sequence[Variant], subfolder: str = "comparisons"
) -> list[TimeEstimate]:
    """Estimate what `run_comparisons` has left: the rates on part of the training images, then each seed on all."""
    left = []
    for opened in settings.sets:
        out = settings.folder / subfolder / f"{opened.location.key}.json"
        done = read_json(out)["methods"] if out.exists() else {}
        seconds = 0.0
        for variant in _fitting(opened, variants):
            entry = done.get(variant.label, {})
            rates = 0 if "lr" in entry or len(settings.rates) < 2 else len(settings.rates)
            seeds = sum(str(seed) not in entry.get("runs", {}) for seed in settings.seeds)
            epochs = settings.recipe.epochs * (rates * (1 - settings.held_out) + seeds)
            seconds += estimate.training(settings, variant, opened.dataset.train, epochs) if epochs else 0.0
        left += [TimeEstimate(opened.location.key, seconds)] if seconds else []
    return left


def origins(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write one line per dataset on the origin of its figures."""
    lines = []
    for entry in entries:
        comparison = entry["comparison"]
        seeds = sorted({seed for method in comparison["methods"].values() for seed in method.get("runs", {})})
        note = f" {comparison['note']}" if "note" in comparison else ""
        lines.append(f"- {title(entry)}{_sizes(entry)}. {origin(comparison, seeds).strip()}{note}")
    return [*lines, ""]


def paper_label(entry: Mapping[str, Any]) -> str:
    """Name the paper's column for a dataset."""
    if entry["as_in_table_3"] or entry["paper"] is None:
        return "paper"
    return f"paper, {entry['paper']}"


def percent(method: Mapping[str, Any] | None, key: str = "top1") -> float | None:
    return None if method is None or key not in method else 100 * method[key]


def spread(method: Mapping[str, Any], key: str = "top1") -> float | None:
    """Standard deviation over seeds in percent; None for a single seed."""
    values = [100 * run[key] for run in method.get("runs", {}).values() if key in run]
    return stdev(values) if len(values) > 1 else None


def _sizes(entry: Mapping[str, Any]) -> str:
    if "train_images" not in entry:
        return ""
    pictures = f", {entry['train_images']:,} training and {entry['test_images']:,} test images"
    return pictures if entry["as_in_table_3"] else f"{pictures} in {entry['classes']} classes"


def _comparison(settings: ReproductionSettings, opened: OpenedSet, variants: Sequence[Variant]) -> Comparison:
    return Comparison(
        settings.source,
        opened.dataset,
        settings.recipe,
        tuple(variants),
        settings.rates,
        settings.seeds,
        settings.held_out,
        costs=False,
        runtime=settings.runtime,
    )


def _about(opened: OpenedSet) -> dict[str, Any]:
    return {"path": opened.location.path.name, "set": opened.location.key}


def _listeners(settings: ReproductionSettings, opened: OpenedSet) -> Any:
    return lambda stage: settings.listeners(f"{opened.location.key}: {stage}")


def _labels(variants: Sequence[Variant]) -> list[str]:
    return [variant.label for variant in variants]


def _fitting(opened: OpenedSet, variants: Sequence[Variant]) -> list[Variant]:
    """Use the paper's sigma² for this dataset."""
    sigma2 = SIGMA2.get(opened.location.column or "")
    if sigma2 is None:
        return list(variants)
    return [_with_sigma2(variant, sigma2) if _is_literal(variant) else variant for variant in variants]


def _is_literal(variant: Variant) -> bool:
    return variant.label.startswith(PAPER_VARIANT) and "sigma2" not in variant.config.get("pooling", {})


def _with_sigma2(variant: Variant, sigma2: float) -> Variant:
    return replace(variant, label=f"{variant.label}:pooling.sigma2={sigma2:g}")
