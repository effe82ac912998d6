"""Why the paper's claims hold or not: the second half of the first page of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from measured import Result, accuracies, of, row

from snow.experiments.reproduce.accuracy import PAPER_VARIANT, PER_CHANNEL_VARIANT, ZERO_VARIANT
from snow.experiments.reproduce.paper import CONVERGED, SETS, TABLE5_THROUGHPUT, TABLE7
from snow.experiments.reproduce.sets import title

SOURCE_GMAC, DELTA_GMAC = 4.09, 0.174
"""Multiplications of a ResNet-50 and of the paper's delta at 224 px, in billions (docs/how-it-works.md)."""


def arithmetic(_: Sequence[Result]) -> Iterator[str]:
    training = 3 * SOURCE_GMAC / (SOURCE_GMAC + 3 * DELTA_GMAC)
    served = 6 * SOURCE_GMAC / (SOURCE_GMAC + 5 * DELTA_GMAC)
    passes = TABLE5_THROUGHPUT["FO"] / 6
    slower = passes / TABLE5_THROUGHPUT["FT"]
    fair = TABLE5_THROUGHPUT["SNOW"] / passes
    yield (
        f"**Arithmetic.** With a ResNet-50 at 224 px, fine-tuning multiplies {training:.2f} times as often as SNOW in "
        f"a training step, and six copies {served:.1f} times as often as SNOW in a pass for six tasks. So the paper's "
        "speed of training is what its arithmetic allows, and its speed of serving is more than that. FO answers six "
        f"tasks in one pass, {TABLE5_THROUGHPUT['FO']:,.0f} predictions per second, so six passes should reach "
        f"{passes:,.0f}; the paper's six copies reach {TABLE5_THROUGHPUT['FT']:,.0f}, {slower:.1f} times fewer. "
        f"Against six such passes, its SNOW is {fair:.1f} times as fast."
    )


def baselines(measured: Sequence[Result]) -> Iterator[str]:
    column = SETS.index("DTD")
    tuned, probe = TABLE7["FT"][column][0], TABLE7["FO"][column][0]
    snow = TABLE7["SNOW-256"][column][0]
    here = [
        f"{one.top1['ft']:.1f} against {one.top1['fo']:.1f} % on {title(one.entry)} after {one.epochs} epochs"
        for one in accuracies(measured)
        if {"ft", "fo"} <= one.top1.keys() and one.top1["ft"] < one.top1["fo"]
    ]
    ours = f" Ours is below it, too, where epochs are few ({'; '.join(here)})." if here else ""
    yield (
        f"**Under-tuned baselines.** On DTD the paper's fine-tuning has {tuned:.1f} %, {probe - tuned:.1f} points less "
        "than a linear probe on the same network, from which it could have started. SNOW's lead of "
        f"{snow - tuned:.1f} points over it there is not a lead over a tuned baseline.{ours}"
    )


def letter(measured: Sequence[Result]) -> Iterator[str]:
    parts = []
    for result in of(measured, "table7"):
        for entry in result["sets"]:
            found = entry["comparison"]["methods"]
            if {PAPER_VARIANT, PER_CHANNEL_VARIANT} <= found.keys():
                literal, columns = (100 * found[label]["top1"] for label in (PAPER_VARIANT, PER_CHANNEL_VARIANT))
                recipe = entry["comparison"]["recipe"]
                way = f"{recipe['optimizer']}, {recipe['epochs']} epochs"
                parts.append(f"{literal:.1f} and {columns:.1f} % on {title(entry)} ({way})")
    yield (
        "**The letter of Algorithm 1.** A layer behind the pooling has a weight column per selected channel. Read to "
        "the letter, a channel that joins or changes its place meets the weights of another one. With a weight column "
        "for each source channel it does not, and the saved network is the same. To the letter and with columns: "
        f"{'; '.join(parts) or 'not measured'}."
    )


def noise(measured: Sequence[Result]) -> Iterator[str]:
    parts = []
    for result in of(measured, "table4"):
        pairs = [row(result, "sigma², top-1 %", value) for value in ("1e-3", "1e-5")]
        if all(pairs):
            before, after = (pair[1] for pair in pairs if pair)
            parts.append(
                f"{after - before:+.1f} points on {title(result['set'])} in {result['recipe']['epochs']} epochs"
            )
    yield (
        "**`w` of ones, and noise that stays.** Where all scalars start equal, their order is that of the noise, until "
        "what they learn outgrows it. It is drawn anew at each step and never falls, so the selection, and with it the "
        f"input of every layer, keeps changing. A sigma² of 1e-5 in place of 1e-3: "
        f"{'; '.join(parts) or 'not measured'}."
    )


def epochs(measured: Sequence[Result]) -> Iterator[str]:
    few = {title(one.entry): one.epochs for one in accuracies(measured) if one.epochs < CONVERGED}
    if not few:
        return
    ends = ", ".join(f"{count} on {where}" for where, count in few.items())
    unsettled = (
        " Until the cars are trained to the end, the paper's accuracies there are neither confirmed nor refuted."
        if any(where.startswith("cars196") for where in few)
        else ""
    )
    yield (
        f"**Few epochs.** The paper trains until about epoch {CONVERGED}; these rows end after {ends}. The paper's "
        f"network starts from random weights, a linear probe and a tuned copy do not.{unsettled}"
    )


def differences(measured: Sequence[Result]) -> Iterator[str]:
    known = {entry["set"] for result in of(measured, "table7") for entry in result["sets"] if entry["as_in_table_3"]}
    sources = {
        entry["comparison"]["source"]["architecture"] for result in of(measured, "table7") for entry in result["sets"]
    }
    data = "" if known else " None of the datasets is one of the paper's five with its own split."
    yield (
        f"**Another source.** Accuracies are measured on {', '.join(sorted(sources))}, smaller than the paper's "
        f"ResNet-50 and at a lower resolution.{data} So a gap between methods says more than an accuracy."
    )


def instead(measured: Sequence[Result]) -> Iterator[str]:
    parts = []
    for one in accuracies(measured):
        for label in ("snow", ZERO_VARIANT):
            if label in one.top1:
                rest = {name: f"{name.upper()} {one.top1[name]:.1f}" for name in ("fo", "ft") if name in one.top1}
                beside = f" ({', '.join(rest.values())})" if rest else ""
                parts.append(f"`{label}` {one.top1[label]:.1f} %{beside} on {title(one.entry)} in {one.epochs} epochs")
    if parts:
        yield (
            "**What this project does instead.** Its networks read the moments of the selected channels and the final "
            f"features directly, and their noise falls to zero: {'; '.join(parts)}."
        )


REASONS = (arithmetic, baselines, letter, noise, epochs, differences, instead)
