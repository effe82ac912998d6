"""Lay out what was measured of sources: what a start and training make of each, and of two side by side."""

from __future__ import annotations

from statistics import correlation, mean, stdev
from typing import Any

from snow.experiments.results import table


def alone(results: dict[str, Any]) -> str:
    """What the start of SNOW adds to a linear probe on each source, and how left-out training pictures rank these."""
    entries = [
        (name, label, entry)
        for name, measured in results["sources_of"].items()
        for label, entry in measured["sources"].items()
    ]
    methods = list(dict.fromkeys(method for _, _, entry in entries for method in entry.get("methods", {})))
    columns = ("set", "source", "parameters", "linear probe %", "start %", "left out %", "log-loss")
    rows = [
        (
            name,
            _at_size(label),
            f"{entry['parameters']:,}",
            f"{100 * entry['probe']['top1']:.1f}",
            f"{100 * entry['start']['top1']:.1f}",
            f"{100 * entry['start']['left_out_accuracy']:.1f}",
            f"{entry['start']['left_out_loss']:.3f}",
            *(_top1(entry.get("methods", {}).get(method)) for method in methods),
        )
        for name, label, entry in entries
    ]
    correlations = "; ".join(
        f"{name} {measured['rank_correlation']['start by accuracy']:.2f} by accuracy and "
        f"{measured['rank_correlation']['start by log-loss']:.2f} by log-loss"
        for name, measured in results["sources_of"].items()
    )
    text = (
        "\nAccuracy on all test pictures, and on left-out training pictures with the start. Rank correlation (Kendall) "
        f"of *left out* and *log-loss* with the start's test accuracy: {correlations}. {_of_trained(results)}"
        f"`{results['command']}`: closed form, no augmentation; {table.environment(results)}.\n"
    )
    return table.markdown_table((*columns, *(f"trained {method} %" for method in methods)), rows) + text


def _top1(run: dict[str, Any] | None) -> str:
    return "–" if run is None else f"{100 * run['top1']:.1f}"


def _of_trained(results: dict[str, Any]) -> str:
    """Correlate what left-out pictures say with the test accuracy of SNOW once it is trained, where it was."""
    found = []
    for name, measured in results["sources_of"].items():
        entries = [entry for entry in measured["sources"].values() if "snow" in entry.get("methods", {})]
        if len(entries) > 2:
            truth = [entry["methods"]["snow"]["top1"] for entry in entries]
            accuracy = spearman([entry["start"]["left_out_accuracy"] for entry in entries], truth)
            loss = spearman([-entry["start"]["left_out_loss"] for entry in entries], truth)
            found.append(f"{name} {accuracy:.2f} by accuracy and {loss:.2f} by log-loss, {len(entries)} sources")
    if not found:
        return ""
    recipe = results["recipe"]
    return (
        f"With the test accuracy of `snow` after {recipe['epochs']} epochs (seed {recipe['seed']}; rates: "
        f"{_rates(results)}), Spearman's: {'; '.join(found)}. "
    )


def _rates(results: dict[str, Any]) -> str:
    """List each trained method with its learning rates."""
    rates: dict[str, set[float]] = {}
    for measured in results["sources_of"].values():
        for entry in measured["sources"].values():
            for method, run in entry.get("methods", {}).items():
                rates.setdefault(method, set()).add(run["lr"])
    return "; ".join(f"{method} {', '.join(f'{rate:g}' for rate in sorted(used))}" for method, used in rates.items())


def spearman(left: list[float], right: list[float]) -> float:
    """Compute the correlation of ranks, equal values sharing the mean of theirs (Spearman, 1904)."""
    ranks = [[sum(o < v for o in values) + sum(o == v for o in values) / 2 for v in values] for values in (left, right)]
    return correlation(*ranks)


def pairs(results: dict[str, Any]) -> str:
    """How far two sources side by side are ahead of the single one that left-out pictures prefer at their cost."""
    columns = ("source", "M multiplications", "CPU ms a picture", *results["source_pairs"], "ahead, points")
    costs, labels = results["costs"], dict[str, None]()
    for cell in results["source_pairs"].values():
        labels |= dict.fromkeys(cell["runs"])
    rows = []
    for label in labels:
        parts = label.split("+")
        count = sum(costs[part]["multiplications"] for part in parts)
        seconds = sum(costs[part]["seconds_per_picture"] for part in parts)
        cells, ahead = [], []
        for name, cell in results["source_pairs"].items():
            cells.append(_with_spread([100 * run["top1"] for run in cell["runs"].get(label, {}).values()]))
            if label in cell["leads"]:
                lead = cell["leads"][label]
                ahead.append(f"{name} {_with_spread(lead['points'], '+.1f')} ({_at_size(lead['against'])})")
        rows.append((_at_size(label), f"{count / 1e6:,.0f}", f"{1e3 * seconds:.1f}", *cells, "; ".join(ahead)))
    sizes = "; ".join(
        f"{name} {cell['classes']} classes, {cell['train']} training and {cell['test']} test pictures"
        for name, cell in results["source_pairs"].items()
    )
    text = (
        f"\nTop-1 on all test pictures in %, mean and standard deviation over seeds that draw the training pictures "
        f"({sizes}), of the start in closed form with {results['budget']:,} numbers at most. *Ahead*: of a pair, over "
        "the single source (in brackets) that left-out training pictures prefer at up to 1.05 times its "
        f"multiplications, seed by seed. CPU ms: in batches, one source after the other. `{results['command']}`; "
        f"{table.environment(results)}.\n"
    )
    return table.markdown_table(columns, rows) + text


def _at_size(label: str) -> str:
    return " + ".join(part.replace("@", " at ") + " px" for part in label.split("+"))


def _with_spread(values: list[float], form: str = ".1f") -> str:
    if not values:
        return "–"
    return f"{mean(values):{form}}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
