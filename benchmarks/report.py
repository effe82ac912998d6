"""Turns all results in `benchmarks/results` into tables: `python benchmarks/report.py` rewrites both pages.

REPORT.md has every comparison, `docs/reproduction.md` the paper's tables and figures beside ours, with pictures in
`docs/figures`. `python benchmarks/report.py --check` writes nothing and fails if a page is not what the results say.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from snow.data.published import PUBLISHED
from snow.experiments import lifelong
from snow.experiments.bench import serving, training_table
from snow.experiments.plan import table as planned
from snow.experiments.reproduce import EXPERIMENTS
from snow.experiments.reproduce.estimate import format_duration, paper_seconds
from snow.experiments.results import table
from snow.methods.variant import Variant

ROOT = Path(__file__).parent.parent
HEAD = "# Results\n\nWritten by `python benchmarks/report.py` from the files in `results/`; do not edit.\n"
EARLIER = (
    "# Earlier defaults\n\nFrom `results/earlier/`: what was measured on the way here, and is no longer the default.\n"
)
EPOCHS, RATES, HELD_OUT = 30, 3, 0.25


def report() -> str:
    return "\n".join([HEAD, *_sections("*.json"), EARLIER, *_sections("earlier/*.json")])


def _sections(pattern: str) -> Iterator[str]:
    for stem, results in _results(pattern):
        if "experiment" not in results:
            note = f"{results['note']}\n\n" if "note" in results else ""
            yield f"## {stem}\n\n{note}{_markdown(results)}"


def reproduction() -> str:
    """The paper's tables and figures in their order; of each all results, and what differs."""
    parts = [_introduction()]
    for name, experiment in EXPERIMENTS.items():
        parts.append(f"## {experiment.title}\n")
        found = [(stem, results) for stem, results in _results() if results.get("experiment") == name]
        for stem, results in found:
            note = f"{results['note']}\n\n" if "note" in results else ""
            seen = f"![{experiment.title}](figures/{stem}.png)\n\n" if _is_drawn(results) else ""
            parts.append(f"### `{stem}.json`\n\n{note}{seen}{experiment.section(results)}")
        if not found:
            data = " --data ROOT" if experiment.needs_data else ""
            parts.append(f"Not measured yet. The command is `snow reproduce {name}{data}`.\n")
        parts.append(f"**What differs.** {experiment.deviations}\n")
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {"benchmarks/REPORT.md": report, "docs/reproduction.md": reproduction}


def draw() -> None:
    """The paper's figures, from the same results."""
    for stem, results in _results():
        if _is_drawn(results):
            EXPERIMENTS[results["experiment"]].draw(results, ROOT / "docs" / "figures" / f"{stem}.png")


def _is_drawn(results: dict[str, Any]) -> bool:
    return results.get("experiment", "").startswith("figure")


def _results(pattern: str = "*.json") -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((ROOT / "benchmarks" / "results").glob(pattern)):
        yield path.stem, json.loads(path.read_text("utf-8"))


def _ways(results: dict[str, Any]) -> str:
    """Of `time_to_accuracy.py`."""
    rows = []
    for name, way in results["ways"].items():
        last, reached = way["curve"][-1], way["seconds_to_accuracy"]
        rows.append(
            (
                name,
                str(len(way["curve"])),
                f"{last['seconds']:,.0f}",
                f"{100 * last['accuracy']:.1f}",
                f"{100 * way['test']['top1']:.1f}",
                "never" if reached is None else f"{reached:,.0f}",
                "" if reached is None else f"{way['over_whole_baseline']:.2f}",
            )
        )
    columns = ("", "epochs", "seconds in all", "held-out %", "test %", "seconds to accuracy", "of the first's time")
    baseline, recipe = next(iter(results["recipes"].items()))
    return (
        f"{table.markdown_table(columns, rows)}\n"
        f"Accuracy is that of `{baseline}` after its last epoch less two points, on "
        f"{100 * recipe['validation']:.0f} % of the training pictures, held out. "
        f"`{results['command']}`: {results['source']['architecture']} at "
        f"{results['source']['preprocessing']['image_size']} px, batch {recipe['batch_size']}, seed {recipe['seed']}; "
        f"{table.environment(results)}.\n"
    )


def _processes(results: dict[str, Any]) -> str:
    """Of `processes.py`."""
    rows = [
        (
            str(one["count"]),
            f"{one['median']:.1f}",
            f"{one['least']:.1f}–{one['most']:.1f}",
            f"{one['of_first']:.2f}",
            f"{100 * one['top1']:.1f}",
        )
        for one in results["processes"]
    ]
    return (
        f"{table.markdown_table(('processes', 'images/s', 'range', 'of the first', 'test %'), rows)}\n"
        f"`{results['command']}`: {results['source']['architecture']} at "
        f"{results['source']['preprocessing']['image_size']} px, method {results['method']}, batch "
        f"{results['recipe']['batch_size']} over all processes; {table.environment(results)}.\n"
    )


def _together(results: dict[str, Any]) -> str:
    """Of `together.py`."""
    rows = [
        (name.replace("_", " "), *(f"{found[key]:.1f}" for key in ("median", "least", "most")))
        for name, found in results["images_per_second"].items()
    ]
    gain = results["speedup"]
    return (
        f"{table.markdown_table(('', 'images/s', 'least', 'most'), rows)}\n{results['tasks']} tasks together learn "
        f"{gain['median']:.2f} times as fast ({gain['least']:.2f}–{gain['most']:.2f}) as one after another. "
        f"`{results['command']}`: {results['source']} at {results['image_size']} px, batch {results['batch_size']}, "
        f"method {results['method']}; {table.environment(results)}.\n"
    )


def _load(results: dict[str, Any]) -> str:
    """Of `serving_load.py`."""
    rows = [
        (
            load.replace("_", " "),
            *(f"{found[name]:,.1f}" for name in ("per_second", "batch", "p50", "p99")),
            f"{found['requests']:,}",
            ", ".join(f"{count:,} {end}" for end, count in found["ended"].items()),
            " → ".join(f"{found['memory_bytes'][moment] / 1e6:,.0f}" for moment in ("before", "most", "after")),
        )
        for load, found in ((name, results[name]) for name in ("capacity", "at_70_percent", "at_300_percent"))
    ]
    columns = ("load", "answered/s", "pictures a pass", "p50 ms", "p99 ms", "requests", "ended", "memory, MB")
    return (
        f"{table.markdown_table(columns, rows)}\n"
        f"{results['capacity']['of_engine']:.2f} of the engine alone in a process, which answers "
        f"{results['engine_per_second']:.1f} pictures/s in passes of {results['max_batch']}; p99 is "
        f"{results['at_70_percent']['p99_by_p50']:.2f} times p50 at 70 %. `{results['command']}`: "
        f"{results['tasks']} tasks, queue {results['queue']}, clients on the same machine; "
        f"{table.environment(results)}.\n"
    )


KINDS = {
    "orders": lifelong.forgetting_table,
    "planned": planned.check_table,
    "hub": serving.markdown,
    "limits": training_table.markdown,
    "ways": _ways,
    "speedup": _together,
    "processes": _processes,
    "at_70_percent": _load,
    "methods": table.markdown,
}
"""How results are shown that have such a key: the first that they have."""


def _markdown(results: dict[str, Any]) -> str:
    return next(shown for key, shown in KINDS.items() if key in results)(results)


def _linked(text: str) -> str:
    """Its addresses as links that show the host alone."""
    return re.sub(r"https?://([^/\s;)]+)[^\s;)]*", r"[\1](\g<0>)", text)


def _introduction() -> str:
    sets = "".join(
        f"| {one.column} | {one.title} | `{one.folder}/` | {one.classes} | {one.train:,}/{one.test:,} | "
        f"{_linked(one.home)} |\n"
        for one in PUBLISHED.values()
    )
    variants = Variant.parse(EXPERIMENTS["table7"].methods)
    once = format_duration(paper_seconds(variants, EPOCHS))
    tuned = format_duration(paper_seconds(variants, EPOCHS * (1 + RATES * (1 - HELD_OUT))))
    return f"""# The paper, reproduced

Written by `python benchmarks/report.py` from the files in `benchmarks/results/`; do not edit. Every table and figure of
the paper that has figures in it, the paper's beside ours, each with the source, the resolution, the machine and the
command, and what differs and why.

A set whose name ends in `-own-split` is not the paper's: `dtd10` is ten of the 47 classes of DTD, `cars196` the 8,144
labelled training pictures of Stanford Cars split anew, `ants_bees` a set of two classes that the paper does not have.
The paper's figures beside these are there for orientation. Precision `auto` is bf16 on a processor or GPU that computes
in it, which is said behind the processor's name, and single precision on others.

## Run it yourself

Unpack what you have of the paper's five data sets side by side in a folder, as their authors distribute them:

| paper | data set | folder | classes | train / test | from |
| --- | --- | --- | --- | --- | --- |
{sets}
Then each table or figure is one command; `--estimate` says how long it will take on this machine, and ends:

```bash
snow reproduce table7 --data datasets/ --source resnet50 --out reproduction/ --estimate
snow reproduce table7 --data datasets/ --source resnet50 --out reproduction/
```

`--source resnet50` takes the ImageNet weights that timm offers, `--weights FILE` those of a file. A command that was
stopped goes on where it was, and leaves out what is done; sets that are missing are named, and the others go on.

With all five sets, {EPOCHS} epochs and {len(variants)} methods, `table7` is work for a night: {once} at the
speeds of the paper's own Table 8, one V100 in single precision, with one learning rate for all (`--rates 1e-3`), and
{tuned} where each method picks from {RATES} rates. Later GPUs in half precision are several times as fast.
"""


def main(arguments: Sequence[str]) -> str | None:
    """Writes the pages, or checks them; returns what is wrong."""
    wrong = []
    if "--check" not in arguments:
        draw()
    for name, written in PAGES.items():
        text = written()
        if "--check" not in arguments:
            (ROOT / name).write_text(text, "utf-8")
        elif not (ROOT / name).exists() or (ROOT / name).read_text("utf-8") != text:
            wrong.append(name)
    return f"{', '.join(wrong)}: not what the results say: run python benchmarks/report.py" if wrong else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
