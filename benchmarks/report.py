"""Write `benchmarks/REPORT.md` and `docs/reproduction.md` from the results files in `benchmarks/results`.

    python benchmarks/report.py          # rewrites both pages and the plots in docs/figures
    python benchmarks/report.py --check  # writes nothing, and fails if a page does not match the results

Where a figure comes from: each section is named after its file in `benchmarks/results`, and the line below its table
gives the command that wrote that file. A key of the file decides who lays it out (`KINDS` below). Results of
`snow reproduce` go to `docs/reproduction.md` instead, laid out by `src/snow/experiments/reproduce/NAME.py`; the map in
`src/snow/experiments/__init__.py` names the code that measured each.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import source_tables
import tasks
from findings import page as findings_page

from snow.data.published import PUBLISHED
from snow.experiments import compare, lifelong
from snow.experiments.bench import serving, training_table
from snow.experiments.plan import table as planned
from snow.experiments.reproduce import EXPERIMENTS
from snow.experiments.reproduce.estimate import format_duration, paper_seconds
from snow.experiments.results import table
from snow.methods.variant import Variant

ROOT = Path(__file__).parent.parent
HEAD = "# Results\n\nWritten by `python benchmarks/report.py` from the files in `results/`; do not edit.\n"
EARLIER = (
    "# Earlier defaults\n\nFrom `results/earlier/`: measurements of settings that are no longer the default, or on "
    "another machine.\n"
)
TITLE = """# The paper, reproduced

Written by `python benchmarks/report.py` from the files in `benchmarks/results/`; do not edit. This page shows every
table and figure of the paper that contains numbers, next to our own measurements: with source, resolution, machine and
command, and with the differences from the paper and their reasons.

A dataset whose name ends in `-own-split` is not the paper's: `dtd10` has ten of the 47 classes of DTD, `cars196` is a
new split of the 8,144 labelled training images of Stanford Cars, and `ants_bees` is a dataset of two classes that the
paper does not use. The paper's figures next to these are for orientation only. Precision `auto` is bf16 on a processor
or GPU that supports it (BF16 in the processor's instruction sets), and single precision elsewhere.
"""
EPOCHS, RATES, HELD_OUT = 30, 3, 0.25


def report() -> str:
    return "\n".join([HEAD, *_sections("*.json"), EARLIER, *_sections("earlier/*.json")])


def _sections(pattern: str) -> Iterator[str]:
    for stem, results in _results(pattern):
        if "experiment" not in results:
            note = f"{results['note']}\n\n" if "note" in results else ""
            yield f"## {stem}\n\n{note}{_markdown(results)}"


def reproduction() -> str:
    """Write the paper's tables and figures in order: all results of each, and its differences from the paper."""
    parts = [TITLE, findings_page(_results()), _introduction()]
    for name, experiment in EXPERIMENTS.items():
        parts.append(f"## {experiment.title}\n")
        measured = [(stem, results) for stem, results in _results() if results.get("experiment") == name]
        for stem, results in measured:
            note = f"{results['note']}\n\n" if "note" in results else ""
            plot = f"![{experiment.title}](figures/{stem}.png)\n\n" if _is_drawn(results) else ""
            parts.append(f"### `{stem}.json`\n\n{note}{plot}{experiment.section(results)}")
        if not measured:
            data = " --data ROOT" if experiment.needs_data else ""
            parts.append(f"Not measured yet. The command is `snow reproduce {name}{data}`.\n")
        parts.append(f"**Differences from the paper.** {experiment.deviations}\n")
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {"benchmarks/REPORT.md": report, "docs/reproduction.md": reproduction}


def draw() -> None:
    """Draw the paper's figures from the results."""
    for stem, results in _results():
        if _is_drawn(results):
            EXPERIMENTS[results["experiment"]].draw(results, ROOT / "docs" / "figures" / f"{stem}.png")


def _is_drawn(results: dict[str, Any]) -> bool:
    return results.get("experiment", "").startswith("figure")


def _results(pattern: str = "*.json") -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((ROOT / "benchmarks" / "results").glob(pattern)):
        yield path.stem, json.loads(path.read_text("utf-8"))


def _ways(results: dict[str, Any]) -> str:
    """Lay out results of `time_to_accuracy.py`."""
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
    columns = ("", "epochs", "seconds in total", "held-out %", "test %", "seconds to accuracy", "relative to the first")
    baseline, recipe = next(iter(results["recipes"].items()))
    return (
        f"{table.markdown_table(columns, rows)}\n"
        f"The target is the accuracy of `{baseline}` after its last epoch minus two points, on "
        f"{100 * recipe['validation']:.0f} % of the training images, held out. "
        f"`{results['command']}`: {results['source']['architecture']} at "
        f"{results['source']['preprocessing']['image_size']} px, batch {recipe['batch_size']}, seed {recipe['seed']}; "
        f"{table.environment(results)}.\n"
    )


def _processes(results: dict[str, Any]) -> str:
    """Lay out results of `processes.py`."""
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
        f"{table.markdown_table(('processes', 'images/s', 'range', 'relative to the first', 'test %'), rows)}\n"
        f"`{results['command']}`: {results['source']['architecture']} at "
        f"{results['source']['preprocessing']['image_size']} px, method {results['method']}, batch "
        f"{results['recipe']['batch_size']} over all processes; {table.environment(results)}.\n"
    )


def _together(results: dict[str, Any]) -> str:
    """Lay out results of `together.py`."""
    rows = [
        (name.replace("_", " "), *(f"{found[key]:.1f}" for key in ("median", "least", "most")))
        for name, found in results["images_per_second"].items()
    ]
    gain = results["speedup"]
    return (
        f"{table.markdown_table(('', 'images/s', 'least', 'most'), rows)}\n{results['tasks']} tasks trained together "
        f"are {gain['median']:.2f} times as fast ({gain['least']:.2f}–{gain['most']:.2f}) as one after another. "
        f"`{results['command']}`: {results['source']} at {results['image_size']} px, batch {results['batch_size']}, "
        f"method {results['method']}; {table.environment(results)}.\n"
    )


def _load(results: dict[str, Any]) -> str:
    """Lay out results of `serving_load.py`."""
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
    columns = ("load", "answered/s", "pictures per pass", "p50 ms", "p99 ms", "requests", "ended", "memory, MB")
    return (
        f"{table.markdown_table(columns, rows)}\n"
        f"The service reaches {results['capacity']['of_engine']:.2f} of the engine alone, which answers "
        f"{results['engine_per_second']:.1f} pictures/s in passes of {results['max_batch']}; at 70 % load p99 is "
        f"{results['at_70_percent']['p99_by_p50']:.2f} times p50. `{results['command']}`: "
        f"{results['tasks']} tasks, queue {results['queue']}, clients on the same machine; "
        f"{table.environment(results)}.\n"
    )


def _bit_flips(results: dict[str, Any]) -> str:
    """Lay out results of `bit_flips.py`."""
    ends = list(results["total"])
    rows = [(file, *(str(found.get(end, 0)) for end in ends)) for file, found in results["files"].items()]
    rows.append(("all files", *(str(results["total"][end]) for end in ends)))
    return (
        f"{table.markdown_table(('one bit flipped in', *ends), rows)}\n"
        f"Named: the damaged task or source is reported and every other task answers as before. "
        f"`{results['command']}`: seed {results['seed']}; {table.environment(results)}.\n"
    )


def _regimes(results: dict[str, Any]) -> str:
    """Lay out results of `regimes.py`: test accuracy of each method, and how far `snow` is ahead of the best other."""
    cells = {name: cell for name, cell in results["regimes"].items() if cell["methods"]}
    methods = list(dict.fromkeys(method for cell in cells.values() for method in cell["methods"]))
    rows, seeds = [], set()
    for name, cell in cells.items():
        figures = {method: _percentages(runs, "top1") for method, runs in cell["methods"].items()}
        others = [mean(figures[method]) for method in figures if method != "snow"]
        gap = f"{mean(figures['snow']) - max(others):+.1f}" if "snow" in figures and others else "–"
        runs = cell["methods"].get("snow", {})
        error = f"{mean(run['ece'] for run in runs.values()):.3f}" if runs else "–"
        size = f"{max(run['learned_parameters'] for run in runs.values()):,}" if runs else "–"
        shown = [_with_spread(figures[method]) if method in figures else "–" for method in methods]
        rows.append((name, str(cell["classes"]), f"{cell['train']:,}", *shown, gap, error, size))
        seeds |= {seed for runs in cell["methods"].values() for seed in runs}
    columns = ("cell", "classes", "training images", *methods, "ahead", "ECE of snow", "numbers of snow")
    rates = ", ".join(f"{rate:g}" for rate in results["rates"])
    return (
        f"{table.markdown_table(columns, rows)}\nTest accuracy in % (± standard deviation over seeds, which draw the "
        f"training images). Each method picked its learning rate of {rates} on a quarter of them, held out. *Ahead*: "
        f"`snow` minus the best other method.\n\n{table.origin(results, sorted(seeds))}"
    )


def _percentages(runs: dict[str, dict[str, Any]], key: str) -> list[float]:
    return [100 * run[key] for run in runs.values()]


def _with_spread(values: list[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _many_tasks(results: dict[str, Any]) -> str:
    """Lay out results of `many_tasks.py`. Limits are for 300 tasks, and `Hub.predict` for 1,024."""
    service, hub = results["service"], results["in_process"]
    limits = results["tasks"] == 300
    rows = [
        ("snow hub list", f"{results['hub_list_seconds']:.2f} s", "1 s" if limits else ""),
        ("snow predict, one picture", f"{results['predict_seconds']:.1f} s", "8 s" if limits else ""),
        ("Hub.open and predict, first picture", f"{hub['first_predict_seconds']:.1f} s", ""),
        ("Hub.predict, another picture", f"{hub['predict_seconds']:.2f} s", "" if limits else "1 s"),
        ("snow overlap", f"{results['overlap_seconds']:.1f} s", "5 s" if limits else ""),
        ("snow hub verify", f"{results['verify_seconds']:.1f} s", ""),
        ("snow serve, until ready", f"{service['ready_seconds']:.1f} s", "8 s" if limits else ""),
        ("GET /v1/tasks", f"{service['list_ms']:.1f} ms", "50 ms" if limits else ""),
        ("GET /v1/tasks, unchanged", f"{service['list_unchanged_ms']:.1f} ms", "50 ms" if limits else ""),
        ("GET /v1/tasks/NAME", f"{service['details_ms']:.1f} ms", ""),
        ("GET /metrics", f"{service['metrics_ms']:.1f} ms", ""),
        ("POST /v1/predict, all tasks, as soon as ready", f"{service['predict_all_first_ms']:,.0f} ms", ""),
        ("POST /v1/predict, all tasks", f"{service['predict_all_ms']:,.0f} ms", ""),
        ("POST /v1/predict, one task", f"{service['predict_one_ms']:.1f} ms", ""),
        ("the same beside three open pages", f"{service['predict_one_beside_three_pages_ms']:.1f} ms", ""),
    ]
    columns = (f"{results['tasks']} tasks", "takes", "at most")
    return (
        f"{table.markdown_table(columns, rows)}\n"
        f"`{results['command']}`: the embedded source at {results['image_size']} px; requests are medians; "
        f"{table.environment(results)}.\n"
    )


def _attacks(results: dict[str, Any]) -> str:
    """Lay out results of `under_fire.py`."""
    rows = [
        (
            name,
            f"{measured['requests']:,}",
            f"{100 * measured['answered']:.1f}",
            f"{1000 * measured['p50']:,.0f}",
            f"{1000 * measured['p99']:,.0f}",
            " → ".join(f"{measured[moment] / 1e6:,.0f}" for moment in ("before", "peak", "after")),
        )
        for name, measured in results["attacks"].items()
    ]
    columns = ("attack", "requests", "answered %", "p50 ms", "p99 ms", "memory, MB")
    return (
        f"{table.markdown_table(columns, rows)}\n"
        f"What one good client gets beside each attack of {results['seconds']:.0f} s, from the same address. Memory is "
        f"that of the service and its decoding processes: before the first attack, at most, and "
        f"{results['settle']:.0f} s after each. `{results['command']}`: attackers and clients on the same machine; "
        f"{table.environment(results)}.\n"
    )


def _kills(results: dict[str, Any]) -> str:
    """Lay out results of `kills.py`."""
    rows = [(f"kills of {kind}", f"{number:,}") for kind, number in results["kills"].items()]
    rows.append(("kills in the middle of a version", f"{results['interrupted']['versions']:,}"))
    rows.append(("folders left by kills, which the next writer removed", f"{results['interrupted']['folders']:,}"))
    rows += [(f"tasks and files {fault}", f"{number:,}") for fault, number in results["faults"].items()]
    return (
        f"{table.markdown_table(('', 'number'), rows)}\n"
        f"`{results['command']}`: two writers at a time, {sum(results['kills'].values())} kills, seed "
        f"{results['seed']}; {table.environment(results)}.\n"
    )


KINDS = {
    "sources_of": source_tables.alone,
    "source_pairs": source_tables.pairs,
    "regimes": _regimes,
    "orders": lifelong.forgetting_table,
    "planned": planned.check_table,
    "hub": serving.markdown,
    "limits": training_table.markdown,
    "ways": _ways,
    "speedup": _together,
    "processes": _processes,
    "at_70_percent": _load,
    "flips": _bit_flips,
    "hub_list_seconds": _many_tasks,
    "attacks": _attacks,
    "kills": _kills,
    "makes": tasks.kinds,
    "pairs": tasks.unknowns,
    "draws": tasks.drift,
    "sets": tasks.pick,
    "methods": compare.markdown,
}
"""Key of a results file -> function that lays it out; the first key that the file has counts."""


def _markdown(results: dict[str, Any]) -> str:
    return next(shown for key, shown in KINDS.items() if key in results)(results)


def _linked(text: str) -> str:
    """Turn URLs into links that show the host only."""
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
    return f"""## Run it yourself

Unpack the paper's five datasets, or some of them, side by side in one folder, as their authors distribute them:

| paper | dataset | folder | classes | train / test | from |
| --- | --- | --- | --- | --- | --- |
{sets}
Then each table or figure takes one command. `--estimate` prints how long it will take on this machine, and exits:

```bash
snow reproduce table7 --data datasets/ --source resnet50 --out reproduction/ --estimate
snow reproduce table7 --data datasets/ --source resnet50 --out reproduction/
```

`--source resnet50` uses timm's ImageNet weights, `--weights FILE` loads others. Run an interrupted command again to
continue it. Missing datasets are reported, and the others are measured.

With all five datasets, {EPOCHS} epochs and {len(variants)} methods, `table7` runs overnight: {once} at the speeds of
the paper's Table 8 (one V100 in single precision) with one learning rate for all methods (`--rates 1e-3`), and {tuned}
if each method chooses from {RATES} rates. Newer GPUs in half precision are several times as fast.
"""


def main(arguments: Sequence[str]) -> str | None:
    """Write the pages, or check them; return an error message or None."""
    outdated = []
    if "--check" not in arguments:
        draw()
    for name, write in PAGES.items():
        text = write()
        if "--check" not in arguments:
            (ROOT / name).write_text(text, "utf-8")
        elif not (ROOT / name).exists() or (ROOT / name).read_text("utf-8") != text:
            outdated.append(name)
    return f"{', '.join(outdated)} does not match the results: run python benchmarks/report.py" if outdated else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
