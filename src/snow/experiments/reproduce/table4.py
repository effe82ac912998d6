"""Table 4: how accuracy depends on K, the size of the delta and sigma²."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.experiments.reproduce import estimate
from snow.experiments.reproduce.accuracy import COLUMNS
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.panel import Pair, Panel, markdown
from snow.experiments.reproduce.paper import TABLE4
from snow.experiments.reproduce.sets import title
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.table import origin
from snow.experiments.sweep import PAPER, Option, Point, Sweep, sweep
from snow.methods import SnowConfig

COLUMN = "Car"
"""The set that the paper measured on."""

OPTIONS = {"keep": "K / N", "width": "size of the delta / source", "pooling.sigma2": "sigma²"}


class Table4(Experiment):
    name = "table4"
    title = "Table 4: accuracy over K, the size of the delta and sigma²"
    differs = (
        "The paper measured on the test pictures of Car; here accuracy is that on training pictures that were held "
        "out, as for every choice of options. One option is changed at a time, around the paper's delta, learned with "
        f"a weight column for each channel (`--methods {COLUMNS}`, the default), or another variant of method snow."
    )
    methods = COLUMNS
    head = "value"

    def costs(self, work: ReproductionSettings) -> list[TimeEstimate]:
        planned = self._sweep(work)
        out = _file(work)
        done = json.loads(out.read_text("utf-8"))["trials"] if out.exists() else []
        left = len(planned.wanted()) * len(planned.seeds) - len(done)
        pictures = planned.dataset.train
        epochs = left * work.recipe.epochs * (1 - work.held_out)
        [variant] = self.variants(work)
        return [TimeEstimate(f"{left} trials", estimate.training(work, variant, pictures, epochs))] if left > 0 else []

    def run(self, work: ReproductionSettings) -> dict[str, Any]:
        opened = work.one(COLUMN)
        about = {"path": opened.found.path.name, "set": opened.found.key}
        found = sweep(self._sweep(work), about, _file(work), work.listeners)
        return {**found, "set": opened.to_dict()}

    def origins(self, results: Results) -> list[str]:
        count = max(trial.get("images", 0) for trial in results["trials"])
        return [f"On {count:,} held-out pictures of {title(results['set'])}. {origin(results, results['seeds'])}"]

    def panels(self, results: Results) -> list[Panel]:
        on_theirs = results["set"]["as_in_table_3"] and results["set"]["paper"] == COLUMN
        paper = "paper" if on_theirs else f"paper, {COLUMN}"
        return [
            Panel(
                f"{OPTIONS[name]}, {key.replace('top', 'top-')} %",
                _rows(results["over"][name], name, place, key),
                paper,
            )
            for name in OPTIONS
            for place, key in enumerate(("top1", "top5"))
        ]

    def body(self, results: Results) -> str:
        """A table for each option: they share no values."""
        found = self.panels(results)
        return "\n".join(markdown(found[start : start + 2], self.head) for start in range(0, len(found), 2))

    def _sweep(self, work: ReproductionSettings) -> Sweep:
        variants = self.variants(work)
        if len(variants) != 1 or variants[0].method != "snow":
            raise SnowError("table4 is swept around one variant of method snow: --methods snow, say")
        dataset = work.one(COLUMN).dataset
        config = SnowConfig.from_dict(variants[0].config).resolved(len(dataset.tasks[0].classes))
        around = Point(config, work.recipe)
        options = tuple(Option.parse(text, around) for text in PAPER)
        return Sweep(work.source, dataset, around, options, work.seeds, work.held_out, runtime=work.runtime)


def _rows(entries: list[dict[str, Any]], name: str, place: int, key: str) -> dict[str, Pair]:
    paper = {float(Fraction(value)): (value, figures[place]) for value, figures in TABLE4[name].items()}
    rows: dict[str, Pair] = {}
    for entry in entries:
        label, figure = paper.get(entry["value"], (f"{entry['value']:g}", None))
        rows[label] = (figure, 100 * entry[key] if key in entry else None)
    return rows


def _file(work: ReproductionSettings) -> Path:
    return work.folder / "table4" / "sweep.json"
