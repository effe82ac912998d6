"""Table 4: accuracy over K, the width of the delta and sigma²."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.experiments.reproduce import estimate
from snow.experiments.reproduce.accuracy import PER_CHANNEL_VARIANT
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.panel import Pair, Panel, markdown
from snow.experiments.reproduce.paper import TABLE4
from snow.experiments.reproduce.sets import title
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.table import origin
from snow.experiments.sweep import PAPER, Option, Sweep, TrialConfig, run_sweep
from snow.methods import SnowConfig

COLUMN = "Car"
"""The dataset that the paper measured on."""

OPTIONS = {"keep": "K / N", "width": "size of the delta / source", "pooling.sigma2": "sigma²"}


class Table4(Experiment):
    name = "table4"
    title = "Table 4: accuracy over K, the size of the delta and sigma²"
    deviations = (
        "The paper measures on the test images of Car. Here accuracy is on held-out training images, as always when "
        "options are chosen. One option changes at a time, around the paper's delta trained with one weight column "
        f"per source channel (`--methods {PER_CHANNEL_VARIANT}`, the default), or around another variant of method "
        "snow."
    )
    methods = PER_CHANNEL_VARIANT
    head = "value"

    def estimates(self, settings: ReproductionSettings) -> list[TimeEstimate]:
        sweep = self._sweep(settings)
        out = _file(settings)
        done = json.loads(out.read_text("utf-8"))["trials"] if out.exists() else []
        left = len(sweep.settings()) * len(sweep.seeds) - len(done)
        pictures = sweep.dataset.train
        epochs = left * settings.recipe.epochs * (1 - settings.held_out)
        [variant] = self.variants(settings)
        return (
            [TimeEstimate(f"{left} trials", estimate.training(settings, variant, pictures, epochs))] if left > 0 else []
        )

    def run(self, settings: ReproductionSettings) -> dict[str, Any]:
        opened = settings.set_for(COLUMN)
        about = {"path": opened.location.path.name, "set": opened.location.key}
        results = run_sweep(self._sweep(settings), about, _file(settings), settings.listeners)
        return {**results, "set": opened.to_dict()}

    def origins(self, results: Results) -> list[str]:
        count = max(trial.get("images", 0) for trial in results["trials"])
        return [f"On {count:,} held-out images of {title(results['set'])}. {origin(results, results['seeds'])}"]

    def panels(self, results: Results) -> list[Panel]:
        is_papers_set = results["set"]["as_in_table_3"] and results["set"]["paper"] == COLUMN
        paper = "paper" if is_papers_set else f"paper, {COLUMN}"
        return [
            Panel(
                f"{OPTIONS[name]}, {key.replace('top', 'top-')} %",
                _rows(results["over"][name], name, index, key),
                paper,
            )
            for name in OPTIONS
            for index, key in enumerate(("top1", "top5"))
        ]

    def body(self, results: Results) -> str:
        """Write one table per option: they have no values in common."""
        panels = self.panels(results)
        return "\n".join(markdown(panels[start : start + 2], self.head) for start in range(0, len(panels), 2))

    def _sweep(self, settings: ReproductionSettings) -> Sweep:
        variants = self.variants(settings)
        if len(variants) != 1 or variants[0].method != "snow":
            raise SnowError("table4 takes one variant of method snow, such as --methods snow")
        dataset = settings.set_for(COLUMN).dataset
        config = SnowConfig.from_dict({"start": "zero", **variants[0].config}).resolved(len(dataset.tasks[0].classes))
        base = TrialConfig(config, settings.recipe)
        options = tuple(Option.parse(text, base) for text in PAPER)
        return Sweep(
            settings.source, dataset, base, options, settings.seeds, settings.held_out, runtime=settings.runtime
        )


def _rows(entries: list[dict[str, Any]], name: str, index: int, key: str) -> dict[str, Pair]:
    paper = {float(Fraction(value)): (value, figures[index]) for value, figures in TABLE4[name].items()}
    rows: dict[str, Pair] = {}
    for entry in entries:
        label, figure = paper.get(entry["value"], (f"{entry['value']:g}", None))
        rows[label] = (figure, 100 * entry[key] if key in entry else None)
    return rows


def _file(settings: ReproductionSettings) -> Path:
    return settings.folder / "table4" / "sweep.json"
