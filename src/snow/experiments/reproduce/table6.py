"""Table 6: parameters and accuracy of each subscription."""

from __future__ import annotations

from typing import Any

from snow.experiments.params import per_task
from snow.experiments.reproduce import accuracy
from snow.experiments.reproduce.accuracy import PAPER_VARIANT, PER_CHANNEL_VARIANT
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.panel import Pair, Panel
from snow.experiments.reproduce.paper import CLASSES, SUBSCRIPTIONS, TABLE6_ACCURACY, TABLE6_OVERHEAD
from snow.experiments.reproduce.sets import column_of, title
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.record import provenance
from snow.methods.variant import Variant
from snow.source import meta_source

VARIANTS = {
    PAPER_VARIANT if name == "channel_pooling" else f"{PAPER_VARIANT}:subscription={name}": name
    for name in SUBSCRIPTIONS
}
"""Label -> subscription, in the paper's delta."""


class Table6(Experiment):
    name = "table6"
    title = "Table 6: parameters and accuracy by subscription"
    deviations = (
        "The paper does not define the networks behind these counts; [the page on rivals](rivals.md) explains our "
        "reading of them. Overheads are for the paper's five tasks. Accuracy is that of the paper's delta with each "
        "subscription, under the recipe named above, which is not the paper's. Channel pooling is Algorithm 1 to the "
        f"letter, `{PER_CHANNEL_VARIANT}` is the same network trained with one weight column per source channel, and "
        "`snow` is this project's default."
    )
    methods = ",".join([*VARIANTS, PER_CHANNEL_VARIANT, "snow"])
    head = "subscription"
    needs_data = False

    def estimates(self, settings: ReproductionSettings) -> list[TimeEstimate]:
        return accuracy.estimates(settings, self.variants(settings))

    def run(self, settings: ReproductionSettings) -> dict[str, Any]:
        bare = meta_source(settings.architecture, settings.image_size)
        counts = {name: per_task(bare, Variant(label), CLASSES) for label, name in VARIANTS.items()}
        sets = accuracy.run_comparisons(settings, self.variants(settings))
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
        name = "channel_pooling" if label == PER_CHANNEL_VARIANT else VARIANTS.get(label)
        paper = None if name is None or column is None else TABLE6_ACCURACY[name][column]
        rows[SUBSCRIPTIONS[VARIANTS[label]] if label in VARIANTS else label] = (paper, accuracy.percent(method))
    return Panel(title(entry), rows, accuracy.paper_label(entry), "top-1 %")
