"""Table 6: subscriptions, by the parameters that they cost and the accuracy that they give."""

from __future__ import annotations

from typing import Any

from snow.compare.provenance import provenance
from snow.compare.variant import Variant
from snow.params import per_task
from snow.reproduce import accuracy
from snow.reproduce.accuracy import LITERAL
from snow.reproduce.estimate import Cost
from snow.reproduce.experiment import Experiment, Results
from snow.reproduce.panel import Pair, Panel
from snow.reproduce.paper import CLASSES, SUBSCRIPTIONS, TABLE6_ACCURACY, TABLE6_OVERHEAD
from snow.reproduce.sets import column_of, title
from snow.reproduce.work import Work
from snow.unfilled import unfilled_source


class Table6(Experiment):
    name = "table6"
    title = "Table 6: parameters and accuracy by subscription"
    differs = (
        "The networks behind these counts are not in the paper; [the page on rivals](rivals.md) says how our reading "
        "of them was picked. Overheads are those of the paper's five tasks. Accuracy is that of the paper's delta "
        "with each subscription under the recipe of the line above, which is not the paper's; channel pooling is "
        "Algorithm 1 to the letter, and `snow` beside it what this project made of it."
    )
    methods = ",".join([*(f"{LITERAL}:subscription={name}" for name in SUBSCRIPTIONS), "snow"])
    head = "subscription"
    needs_data = False

    def costs(self, work: Work) -> list[Cost]:
        return accuracy.costs(work, self.variants(work))

    def run(self, work: Work) -> dict[str, Any]:
        bare = unfilled_source(work.bare, work.image_size)
        counts = {name: per_task(bare, Variant(f"{LITERAL}:subscription={name}"), CLASSES) for name in SUBSCRIPTIONS}
        sets = accuracy.compared(work, self.variants(work))
        return {**provenance(), "counted": bare.architecture, "overhead": counts, "sets": sets}

    def origins(self, results: Results) -> list[str]:
        count = f"- Parameters: `{results['command']}`, counted of {results['counted']} with random weights."
        return [count, *accuracy.origins(results["sets"])]

    def panels(self, results: Results) -> list[Panel]:
        overhead: dict[str, Pair] = {
            SUBSCRIPTIONS[name]: (paper, sum(results["overhead"][name]) / 1e6)
            for name, paper in TABLE6_OVERHEAD.items()
        }
        return [Panel("overhead, M", overhead), *(_accuracy(entry) for entry in results["sets"])]


def _accuracy(entry: dict[str, Any]) -> Panel:
    column = column_of(entry)
    rows: dict[str, Pair] = {}
    for label, method in entry["comparison"]["methods"].items():
        name = Variant(label).config.get("subscription", "")
        paper = TABLE6_ACCURACY[name][column] if name in TABLE6_ACCURACY and column is not None else None
        rows[SUBSCRIPTIONS.get(name, label)] = (paper, accuracy.percent(method))
    return Panel(title(entry), rows, accuracy.theirs(entry), "top-1 %")
