"""Table 9: what learning without forgetting forgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.experiments.lifelong import draw_forgetting, forgetting_columns, forgetting_rows, lifelong
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
    title = "Table 9: what is left of earlier tasks"
    differs = (
        "The paper's orders A and B are followed as far as their sets are there; others come last. The paper tried "
        "several orders and shows the best outcome for LF. It took a batch of 128 and a rate of 0.005 for LF; here "
        "the recipe is that of the lines above. SNOW stands beside LF to show what it forgets, which is nothing: no "
        "task changes another."
    )
    methods = "lf,snow"

    def costs(self, work: ReproductionSettings) -> list[TimeEstimate]:
        out = _file(work)
        done = read_json(out)["orders"] if out.exists() else []
        epochs = work.recipe.epochs
        found = []
        for index, order in enumerate(_orders(work)):
            for variant in self.variants(work):
                if len(done) <= index or variant.label not in done[index]["methods"]:
                    seconds = sum(estimate.training(work, variant, one.dataset.train, epochs) for one in work.sets)
                    found.append(TimeEstimate(f"{variant.label}: {' → '.join(order)}", seconds))
        return found

    def run(self, work: ReproductionSettings) -> dict[str, Any]:
        orders = _orders(work)
        datasets = [one.dataset for one in work.sets]
        hubs = work.folder / "table9" / "hubs"
        out = _file(work)
        found = lifelong(
            work.source,
            datasets,
            self.variants(work),
            work.recipe,
            hubs,
            work.listeners,
            out,
            orders,
            work.runtime,
        )
        wanted = [variant.label for variant in self.variants(work)]
        chosen = [
            {**order, "methods": {label: order["methods"][label] for label in wanted}} for order in found["orders"]
        ]
        return {
            **provenance(),
            "lifelong": {**found, "orders": chosen},
            "paper": [{"order": list(order), "accuracy": rows} for order, rows in zip(ORDERS, TABLE9, strict=True)],
            "sets": [one.to_dict() for one in work.sets],
        }

    def origins(self, results: Results) -> list[str]:
        return [origin(results["lifelong"], [results["lifelong"]["recipe"]["seed"]])]

    def body(self, results: Results) -> str:
        parts = []
        for name, order, rows in zip("AB", ORDERS, TABLE9, strict=True):
            cells = [
                (task, *("" if one is None else f"{one:.1f}" for one in row))
                for task, row in zip(order, rows, strict=True)
            ]
            parts.append(markdown_table(forgetting_columns(order, f"paper, LF, order {name}, top-1 %"), cells))
        for order in results["lifelong"]["orders"]:
            for label, measured in order["methods"].items():
                head = forgetting_columns(order["order"], f"here, {label}, top-1 %")
                lost = f"Lost of the earlier tasks at the end, on average: {100 * measured['forgetting']:.1f} %.\n"
                parts += [markdown_table(head, forgetting_rows(order["order"], measured)), lost]
        return "\n".join(parts)

    def draw(self, results: Results, path: Path) -> None:
        draw_forgetting(results["lifelong"], path)


def _orders(work: ReproductionSettings) -> list[list[str]]:
    """The paper's two, of the sets that are there, each under the names of ours; once if they are the same."""
    if len(work.sets) < 2:
        there = ", ".join(one.found.key for one in work.sets) or "none"
        raise SnowError(f"table9 takes two or more sets, and there is {there}")
    orders: list[list[str]] = []
    for order in ORDERS:
        places = {column: place for place, column in enumerate(order)}
        ranked = sorted(work.sets, key=lambda one: places.get(one.found.column or "", len(order)))
        orders.append([one.found.key for one in ranked])
    return orders if orders[0] != orders[1] else orders[:1]


def _file(work: ReproductionSettings) -> Path:
    return work.folder / "table9" / "lifelong.json"
