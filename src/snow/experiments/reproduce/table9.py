"""Table 9: how much of earlier tasks learning without forgetting (LF) loses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.experiments.lifelong import forgetting_columns, forgetting_rows, run_lifelong
from snow.experiments.plots.forgetting import draw_forgetting
from snow.experiments.reproduce import estimate
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.paper import ORDERS, TABLE9
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.record import provenance
from snow.experiments.results.table import markdown_table, origin
from snow.store import read_json


class Table9(Experiment):
    name = "table9"
    title = "Table 9: accuracy on earlier tasks"
    deviations = (
        "The paper's orders A and B are followed as far as their datasets are available; other datasets come last. "
        "The paper tried several orders and shows the best for LF, with a batch size of 128 and a learning rate of "
        "0.005; here the recipe is the one named above. Progressive nets (PN) and SNOW are shown for comparison: they "
        "forget nothing, because no task changes another. A set named `-1of3` has a third of the classes of another, "
        "such as the first third of the makes of cars."
    )
    methods = "lf,pn,snow"

    def estimates(self, settings: ReproductionSettings) -> list[TimeEstimate]:
        out = _file(settings)
        done = read_json(out)["orders"] if out.exists() else []
        epochs = settings.recipe.epochs
        left = []
        for index, order in enumerate(_orders(settings)):
            for variant in self.variants(settings):
                if len(done) <= index or variant.label not in done[index]["methods"]:
                    seconds = sum(
                        estimate.training(settings, variant, opened.dataset.train, epochs) for opened in settings.sets
                    )
                    left.append(TimeEstimate(f"{variant.label}: {' → '.join(order)}", seconds))
        return left

    def run(self, settings: ReproductionSettings) -> dict[str, Any]:
        orders = _orders(settings)
        datasets = [opened.dataset for opened in settings.sets]
        hubs = settings.folder / "table9" / "hubs"
        out = _file(settings)
        measured = run_lifelong(
            settings.source,
            datasets,
            self.variants(settings),
            settings.recipe,
            hubs,
            settings.listeners,
            out,
            orders,
            settings.runtime,
        )
        labels = [variant.label for variant in self.variants(settings)]
        orders_shown = [
            {**order, "methods": {label: order["methods"][label] for label in labels}} for order in measured["orders"]
        ]
        return {
            **provenance(),
            "lifelong": {**measured, "orders": orders_shown},
            "paper": [{"order": list(order), "accuracy": rows} for order, rows in zip(ORDERS, TABLE9, strict=True)],
            "sets": [opened.to_dict() for opened in settings.sets],
        }

    def origins(self, results: Results) -> list[str]:
        return [origin(results["lifelong"], [results["lifelong"]["recipe"]["seed"]])]

    def body(self, results: Results) -> str:
        parts = []
        for name, order, rows in zip("AB", ORDERS, TABLE9, strict=True):
            cells = [
                (task, *("" if top1 is None else f"{top1:.1f}" for top1 in row))
                for task, row in zip(order, rows, strict=True)
            ]
            parts.append(markdown_table(forgetting_columns(order, f"paper, LF, order {name}, top-1 %"), cells))
        for order in results["lifelong"]["orders"]:
            for label, measured in order["methods"].items():
                head = forgetting_columns(order["order"], f"here, {label}, top-1 %")
                lost = f"Average accuracy lost on earlier tasks: {100 * measured['forgetting']:.1f} %.\n"
                parts += [markdown_table(head, forgetting_rows(order["order"], measured)), lost]
        return "\n".join(parts)

    def draw(self, results: Results, path: Path) -> None:
        draw_forgetting(results["lifelong"], path)


def _orders(settings: ReproductionSettings) -> list[list[str]]:
    """Order the available datasets as the paper's orders A and B do; one order if both agree."""
    if len(settings.sets) < 2:
        available = ", ".join(opened.location.key for opened in settings.sets) or "none"
        raise SnowError(f"table9 needs two or more datasets, and there is {available}")
    orders: list[list[str]] = []
    for order in ORDERS:
        position = {column: index for index, column in enumerate(order)}
        ranked = sorted(settings.sets, key=lambda opened: position.get(opened.location.column or "", len(order)))
        orders.append([opened.location.key for opened in ranked])
    return orders if orders[0] != orders[1] else orders[:1]


def _file(settings: ReproductionSettings) -> Path:
    return settings.folder / "table9" / "lifelong.json"
