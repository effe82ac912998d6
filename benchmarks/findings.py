"""The first page of the report: which claims of the paper hold in the results, which do not, by how much, and why.

Every figure is read from the results or from the paper's tables, and every verdict follows from them by rule: new
results change the page by themselves. A difference of accuracies counts only beyond chance, which is two standard
errors of a difference of two shares of that many images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from measured import Result, accuracies, chance, of, row
from reasons import REASONS

from snow.experiments.lifelong import forgetting
from snow.experiments.reproduce import EXPERIMENTS
from snow.experiments.reproduce.accuracy import PAPER_VARIANT, PER_CHANNEL_VARIANT
from snow.experiments.reproduce.paper import CONVERGED, ORDERS, TABLE4, TABLE9
from snow.experiments.reproduce.sets import title
from snow.experiments.results.table import markdown_table

NEAR = 0.1
"""How far below the paper's a ratio may be and still count as the paper's."""

HOLDS, FAILS, OPEN, ABSENT = "holds", "does not hold", "not settled", "not measured"
SUMMARIES = {
    HOLDS: "**Holds here**",
    FAILS: "**Does not hold here**",
    OPEN: "**Not settled**",
    ABSENT: "**Not measured**",
}
"""How a verdict starts -> how the summary starts."""

RULES = f"""\
SNOW is here the paper's network, trained with one weight column per source channel, unless a row says otherwise. All
methods of a row have the same source, images, resolution and number of epochs, and one seed, unless a table below
shows a spread. Verdicts follow from the figures by rule: a ratio holds if it is at least {100 * (1 - NEAR):.0f} % of
the paper's. A difference of accuracies counts if it is larger than two standard errors of a difference between two
shares of that many images; otherwise it is within chance. Only a run of {CONVERGED} epochs settles it.
"""


@dataclass(frozen=True)
class Finding:
    """One claim: what the paper has, what the results have, and what follows.

    Attributes:
        topic: names it in the summary.
        verdict: starts with a key of `SUMMARIES`.
    """

    topic: str
    claim: str
    paper: str
    here: str
    verdict: str


def page(results: Iterable[tuple[str, Result]]) -> str:
    """Write the page from (name of file, results)."""
    measured = [result for _, result in results]
    found = [finding for find in FINDINGS for finding in find(measured)]
    rows = [(one.claim, one.paper, one.here, one.verdict) for one in found]
    topics = {
        start: "; ".join(dict.fromkeys(one.topic for one in found if one.verdict.startswith(start)))
        for start in SUMMARIES
    }
    return "\n".join(
        [
            "## What holds, and what does not\n",
            *(f"- {SUMMARIES[start]}: {named}." for start, named in topics.items() if named),
            "",
            RULES,
            markdown_table(("claim of the paper", "paper", "here", "verdict"), rows),
            "### Why\n",
            *(f"- {reason}" for explain in REASONS for reason in explain(measured)),
            "",
        ]
    )


def _missing(topic: str, claim: str, name: str) -> Finding:
    return Finding(topic, claim, "–", "–", f"{ABSENT}: `snow reproduce {name}`")


def _machine(result: Result) -> str:
    recipe = result.get("recipe", {})
    batch = result.get("batch_size") or recipe["batch_size"]
    precision = result.get("precision") or recipe.get("precision", "32")
    return f"{result['architecture']}, {result['hardware']['gpu'] or 'CPU'}, batch {batch}, precision {precision}"


def _ratio(paper: float, here: float) -> str:
    return HOLDS if here >= (1 - NEAR) * paper else f"{FAILS}: {100 * (1 - here / paper):.0f} % less"


def speeds(measured: Sequence[Result]) -> Iterator[Finding]:
    topic, claim = "the speed of training", "SNOW trains several times as fast as fine-tuning"
    for result in of(measured, "table8"):
        if pair := row(result, "images/s, FT = 1", PAPER_VARIANT):
            shown = (f"{ratio:.2f} ×" for ratio in pair)
            yield Finding(topic, f"{claim} ({_machine(result)})", *shown, _ratio(*pair))
        snow, tuned = (row(result, "memory, GB", label) for label in (PAPER_VARIANT, "ft"))
        if snow and tuned:
            times = tuned[0] / snow[0], tuned[1] / snow[1]
            shown = (f"1 / {ratio:.1f}" for ratio in times)
            claim_memory = "… and takes a fraction of its memory (in the paper at batches of different sizes)"
            yield Finding("the memory of training", claim_memory, *shown, _ratio(*times))
        yield from _order(result)
    if not of(measured, "table8"):
        yield _missing(topic, claim, "table8")


def _order(result: Result) -> Iterator[Finding]:
    names = {"fo": "FO", "fe": "FE", "ft": "FT", "mp": "MP", "pn": "PN", PAPER_VARIANT: "SNOW"}
    found = {name: row(result, "images/s, FT = 1", label) for label, name in names.items()}
    pairs = {name: pair for name, pair in found.items() if pair}
    if len(pairs) == len(names):
        paper, here = (sorted(pairs, key=lambda name: -pairs[name][side]) for side in (0, 1))
        claim, shown = "… the order of all methods, fastest first", (", ".join(paper), ", ".join(here))
        yield Finding("the order of the methods by speed", claim, *shown, HOLDS if paper == here else FAILS)


def serving(measured: Sequence[Result]) -> Iterator[Finding]:
    topic, claim = "the factor of serving", "SNOW serves six tasks several times as fast as six tuned copies"
    for result in of(measured, "table5"):
        if pair := row(result, "predictions, FT = 1", PAPER_VARIANT):
            shown = (f"{ratio:.2f} ×" for ratio in pair)
            yield Finding(topic, f"{claim} ({_machine(result)})", *shown, _ratio(*pair))
        if pair := row(result, "parameters, M", PAPER_VARIANT):
            verdict = HOLDS if abs(pair[1] / pair[0] - 1) < NEAR else FAILS
            shown = (f"{count:.1f} M" for count in pair)
            yield Finding("the number of parameters", "Parameters of the source and five tasks", *shown, verdict)
    if not of(measured, "table5"):
        yield _missing(topic, claim, "table5")


def gpu(measured: Sequence[Result]) -> Iterator[Finding]:
    if not any(result["hardware"]["gpu"] for name in ("table5", "table8") for result in of(measured, name)):
        verdict = f"{ABSENT}: `python benchmarks/gpu.py`"
        yield Finding("speeds on a GPU", "These speeds on a GPU", "one V100", "–", verdict)


def lasting(measured: Sequence[Result]) -> Iterator[Finding]:
    topic, claim = "no forgetting", "SNOW loses nothing on earlier tasks, learning without forgetting (LF) much; points"
    tables = [[[None if top1 is None else top1 / 100 for top1 in cells] for cells in table] for table in TABLE9]
    lost_there = " and ".join(f"{100 * forgetting(table):.1f}" for table in tables)
    for result in of(measured, "table9"):
        lost: dict[str, list[float]] = {}
        for order in result["lifelong"]["orders"]:
            for label, one in order["methods"].items():
                lost.setdefault(label, []).append(100 * one["forgetting"])
        shown = "; ".join(f"`{label}` {' and '.join(f'{lo:.1f}' for lo in values)}" for label, values in lost.items())
        tasks = len(result["lifelong"]["orders"][0]["order"])
        kept = all(value == 0 for label, values in lost.items() if label.startswith("snow") for value in values)
        paper = f"LF {lost_there} ({len(ORDERS[0])} tasks, two orders)"
        yield Finding(topic, claim, paper, f"{shown} ({tasks} tasks)", HOLDS if kept else FAILS)
    if not of(measured, "table9"):
        yield _missing(topic, claim, "table9")


def choices(measured: Sequence[Result]) -> Iterator[Finding]:
    topic, claim = "a selection that comes to rest", "The selected channels change at first, and come to rest"
    for result in of(measured, "figure5"):
        early, late = (max(100 * tap[key] for tap in result["taps"].values()) for key in ("early", "late"))
        here = f"up to {early:.0f} % change early, {late:.0f} % late, in {result['recipe']['epochs']} epochs"
        yield Finding(topic, claim, "a plot", here, HOLDS if late < NEAR * early else FAILS)
    if not of(measured, "figure5"):
        yield _missing(topic, claim, "figure5")


def _gap(snow: float, other: float, wanted: float, images: int, epochs: int) -> str:
    """Say whether SNOW is ahead by as much as is wanted, as far as chance and the number of epochs allow."""
    margin, surplus = chance(snow, other, images), snow - other - wanted
    by_far = HOLDS if surplus > 0 else FAILS
    found = by_far if abs(surplus) > margin else f"within chance (± {margin:.1f})"
    if epochs < CONVERGED:
        return f"{OPEN}: {found} after {epochs} epochs"
    return found if found == by_far else f"{HOLDS}, {found}"


def accuracy(measured: Sequence[Result]) -> Iterator[Finding]:
    for one in accuracies(measured):
        where, images = title(one.entry), one.entry["test_images"]
        for label, row_name, claim in (
            ("fo", "FO", "SNOW is more accurate than a linear probe (FO)"),
            ("ft", "FT", "SNOW is about as accurate as fine-tuning (FT)"),
        ):
            topic, claim = f"accuracy beside {row_name} on {where}", f"{claim}, {where}"
            there = one.paper["SNOW-256"] - one.paper[row_name] if one.paper else 0.0
            paper = f"{there:+.1f} on {one.entry['paper']}" if one.paper else "–"
            if label not in one.top1:
                yield Finding(topic, claim, paper, "–", f"{OPEN}: {row_name} is not measured beside it")
                continue
            snow, other = one.top1[PER_CHANNEL_VARIANT], one.top1[label]
            verdict = _gap(snow, other, min(there, 0.0), images, one.epochs)
            if verdict == HOLDS and there - (snow - other) > chance(snow, other, images):
                verdict = f"{HOLDS}, by less than in the paper"
            yield Finding(topic, claim, paper, f"{snow - other:+.1f} ({snow:.1f} and {other:.1f} %)", verdict)


def subscriptions(measured: Sequence[Result]) -> Iterator[Finding]:
    for result in of(measured, "table6"):
        for panel, entry in zip(EXPERIMENTS["table6"].panels(result)[1:], result["sets"], strict=True):
            rivals = [
                pair
                for label, pair in panel.rows.items()
                if label != "channel pooling" and not label.startswith("snow")
            ]
            snow = panel.rows.get(PER_CHANNEL_VARIANT, (None, None))[1]
            best = max((here for _, here in rivals if here is not None), default=None)
            pooled, theirs = panel.rows["channel pooling"][0], [paper for paper, _ in rivals if paper is not None]
            if snow is None or best is None:
                continue
            there = pooled - max(theirs) if theirs and pooled is not None else 0.0
            verdict = _gap(snow, best, min(there, 0.0), entry["test_images"], entry["comparison"]["recipe"]["epochs"])
            yield Finding(
                "channel pooling against other subscriptions",
                f"Channel pooling is as accurate as the best other subscription, {title(entry)}",
                f"{there:+.1f} on {entry['paper']}" if theirs else "–",
                f"{snow - best:+.1f} ({snow:.1f} and {best:.1f} %)",
                verdict,
            )


def sensitivity(measured: Sequence[Result]) -> Iterator[Finding]:
    for result in of(measured, "table4"):
        where, epochs, images = title(result["set"]), result["recipe"]["epochs"], result["trials"][0]["images"]
        for option, panel, topic in (
            ("pooling.sigma2", "sigma²", "the best sigma²"),
            ("keep", "K / N", "the best K"),
            ("width", "size of the delta / source", "the best size of the delta"),
        ):
            found = {value: row(result, f"{panel}, top-1 %", value) for value in TABLE4[option]}
            pairs = {value: pair for value, pair in found.items() if pair}
            if len(pairs) < len(found):
                continue
            there, here = (max(pairs, key=lambda value: pairs[value][side]) for side in (0, 1))
            best, theirs = pairs[here][1], pairs[there][1]
            verdict = HOLDS if here == there else _gap(theirs, best, 0.0, images, epochs)
            if epochs < CONVERGED and here == there:
                verdict = f"{OPEN}: {HOLDS} after {epochs} epochs"
            paper, shown = (", ".join(f"{value}: {pair[side]:.1f}" for value, pair in pairs.items()) for side in (0, 1))
            yield Finding(topic, f"{panel} of {there} is best, {where}", paper, shown, verdict)


def convergence(measured: Sequence[Result]) -> Iterator[Finding]:
    entries = [entry for result in of(measured, "figure6") for entry in result["sets"]]
    longest = max((entry["comparison"]["recipe"]["epochs"] for entry in entries), default=0)
    claim, here = f"All methods converge by about {CONVERGED} epochs", f"{longest} epochs at most"
    if longest < CONVERGED:
        yield Finding("the number of epochs", claim, "a plot", here, OPEN)


FINDINGS = (speeds, serving, gpu, lasting, choices, accuracy, subscriptions, sensitivity, convergence)
