"""Methods compared on every set that is there: what Tables 6 and 7 and Figures 4 and 6 are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from snow.experiments.compare import Comparison, compare
from snow.experiments.reproduce import estimate
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.paper import SIGMA2
from snow.experiments.reproduce.sets import Opened, title
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.table import origin
from snow.methods.variant import Variant
from snow.store import read_json

LITERAL = "snow:preset=paper"
"""Algorithm 1 to the letter, which learns far less than it could."""

COLUMNS = f"{LITERAL}:pooling.slots=channel"
"""The same network once it has learned; while it learns, each channel of the source has a weight column of its own."""

METHODS = f"fo,fe,ft,mp,pn,{LITERAL},{COLUMNS},snow"
"""Of Table 7 and what is made like it."""


def compared(
    work: ReproductionSettings, variants: Sequence[Variant], room: str = "comparisons"
) -> list[dict[str, Any]]:
    """For each set what is kept of it, and under `comparison` what `snow.experiments.compare` gave.

    Args:
        room: folder for the results of each set, which other experiments with the same recipe share.
    """
    entries = []
    for opened in work.sets:
        wanted = _fitting(opened, variants)
        out = work.folder / room / f"{opened.found.key}.json"
        results = compare(_comparison(work, opened, wanted), _about(opened), out, _named(work, opened))
        methods = {label: results["methods"][one.label] for label, one in zip(_labels(variants), wanted, strict=True)}
        entries.append({**opened.to_dict(), "comparison": {**results, "methods": methods}})
    return entries


def costs(work: ReproductionSettings, variants: Sequence[Variant], room: str = "comparisons") -> list[TimeEstimate]:
    """Of what `compared` would still do: rates on a part of the training pictures, then each seed on all of them."""
    found = []
    for opened in work.sets:
        out = work.folder / room / f"{opened.found.key}.json"
        done = read_json(out)["methods"] if out.exists() else {}
        seconds = 0.0
        for variant in _fitting(opened, variants):
            entry = done.get(variant.label, {})
            rates = 0 if "lr" in entry or len(work.rates) < 2 else len(work.rates)
            seeds = sum(str(seed) not in entry.get("runs", {}) for seed in work.seeds)
            epochs = work.recipe.epochs * (rates * (1 - work.held_out) + seeds)
            seconds += estimate.training(work, variant, opened.dataset.train, epochs) if epochs else 0.0
        found += [TimeEstimate(opened.found.key, seconds)] if seconds else []
    return found


def origins(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a set."""
    lines = []
    for entry in entries:
        found = entry["comparison"]
        seeds = sorted({seed for method in found["methods"].values() for seed in method.get("runs", {})})
        note = f" {found['note']}" if "note" in found else ""
        lines.append(f"- {title(entry)}{_sizes(entry)}. {origin(found, seeds).strip()}{note}")
    return [*lines, ""]


def theirs(entry: Mapping[str, Any]) -> str:
    """What the paper's column is called beside a set."""
    if entry["as_in_table_3"] or entry["paper"] is None:
        return "paper"
    return f"paper, {entry['paper']}"


def percent(method: Mapping[str, Any] | None, key: str = "top1") -> float | None:
    return None if method is None or key not in method else 100 * method[key]


def _sizes(entry: Mapping[str, Any]) -> str:
    if "train_images" not in entry:
        return ""
    pictures = f", {entry['train_images']:,} training and {entry['test_images']:,} test pictures"
    return pictures if entry["as_in_table_3"] else f"{pictures} in {entry['classes']} classes"


def _comparison(work: ReproductionSettings, opened: Opened, variants: Sequence[Variant]) -> Comparison:
    return Comparison(
        work.source,
        opened.dataset,
        work.recipe,
        tuple(variants),
        work.rates,
        work.seeds,
        work.held_out,
        costs=False,
        runtime=work.runtime,
    )


def _about(opened: Opened) -> dict[str, Any]:
    return {"path": opened.found.path.name, "set": opened.found.key}


def _named(work: ReproductionSettings, opened: Opened) -> Any:
    return lambda stage: work.listeners(f"{opened.found.key}: {stage}")


def _labels(variants: Sequence[Variant]) -> list[str]:
    return [variant.label for variant in variants]


def _fitting(opened: Opened, variants: Sequence[Variant]) -> list[Variant]:
    """With the sigma² that the paper took for this set."""
    sigma2 = SIGMA2.get(opened.found.column or "")
    if sigma2 is None:
        return list(variants)
    return [_with_sigma2(variant, sigma2) if _is_literal(variant) else variant for variant in variants]


def _is_literal(variant: Variant) -> bool:
    return variant.label.startswith(LITERAL) and "sigma2" not in variant.config.get("pooling", {})


def _with_sigma2(variant: Variant, sigma2: float) -> Variant:
    return replace(variant, label=f"{variant.label}:pooling.sigma2={sigma2:g}")
