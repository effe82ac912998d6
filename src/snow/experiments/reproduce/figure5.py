"""Figure 5: the selected channels over the course of training."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.experiments.plots.channels import draw_selection
from snow.experiments.reproduce import estimate
from snow.experiments.reproduce.accuracy import PER_CHANNEL_VARIANT
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.sets import title
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.record import open_results, save_results
from snow.experiments.results.table import markdown_table, origin
from snow.hub import Hub
from snow.hub.folder import read_selection_history
from snow.methods import SnowConfig
from snow.subscribe import SelectionHistory
from snow.training.checkpoint import data_digest
from snow.training.train import train


class Figure5(Experiment):
    name = "figure5"
    title = "Figure 5: selected channels over the course of training"
    deviations = (
        "The paper shows one feature map of its task Car, and says that the selection changes often at first and "
        "settles after some epochs. All feature maps are shown here, selected without the noise of training. The "
        "method is the paper's delta, trained with one weight column per source channel. *Early* and *late* are the "
        "share of the selected channels that the record before did not have, in the first and the last tenth of the "
        "records."
    )
    methods = PER_CHANNEL_VARIANT

    def estimates(self, settings: ReproductionSettings) -> list[TimeEstimate]:
        opened = settings.set_for("Car")
        if opened.location.key in _tasks(settings):
            return []
        [variant] = self.variants(settings)
        return [
            TimeEstimate(
                variant.label, estimate.training(settings, variant, opened.dataset.train, settings.recipe.epochs)
            )
        ]

    def run(self, settings: ReproductionSettings) -> dict[str, Any]:
        opened = settings.set_for("Car")
        variants = self.variants(settings)
        if len(variants) != 1 or variants[0].method != "snow":
            raise SnowError("figure5 takes one variant of method snow, such as --methods snow")
        config = {"start": "zero", **variants[0].config}
        identity = {
            "source": settings.source.description(),
            "data": {"set": opened.location.key, "fingerprint": data_digest(opened.dataset)},
            "recipe": settings.recipe.to_dict(),
            "options": SnowConfig.from_dict(config).to_dict(),
        }
        out = settings.folder / "figure5" / "run.json"
        results = open_results(out, identity, {"taps": {}})
        save_results(out, results)
        hub = Hub.create(_hub(settings), settings.source)
        if opened.location.key not in hub.names():
            listeners = settings.listeners(f"{opened.location.key}: {variants[0].label}")
            train(
                hub,
                opened.dataset,
                settings.recipe,
                config=config,
                runtime=settings.runtime,
                listeners=listeners,
                resume=True,
            )
        history = read_selection_history(hub.path, opened.location.key)
        results["taps"] = {tap: _summary(history, tap) for tap in history.masks}
        save_results(out, results)
        encoded = b64encode(history.to_bytes()).decode()
        return {**results, "label": variants[0].label, "set": opened.to_dict(), "choices": encoded}

    def origins(self, results: Results) -> list[str]:
        where = f"{results['label']} on {title(results['set'])}"
        return [f"{where}. {origin(results, [results['recipe']['seed']])}"]

    def body(self, results: Results) -> str:
        columns = (
            "feature map",
            "channels",
            "selected",
            "from the start",
            "changed early %",
            "changed late %",
            "last change in epoch",
        )
        rows = [
            (
                tap,
                str(entry["channels"]),
                str(entry["taken"]),
                str(entry["from_start"]),
                f"{100 * entry['early']:.1f}",
                f"{100 * entry['late']:.1f}",
                str(entry["settled_epoch"]),
            )
            for tap, entry in results["taps"].items()
        ]
        return markdown_table(columns, rows)

    def draw(self, results: Results, path: Path) -> None:
        history = SelectionHistory.from_bytes(b64decode(results["choices"]), self.name)
        draw_selection(history, f"channels selected by {results['label']} on {title(results['set'])}", path)


def _summary(history: SelectionHistory, tap: str) -> dict[str, Any]:
    summary = history.summary(tap)
    changes = [count / summary["taken"] for count in summary["newcomers"]]
    tenth = max(1, len(changes) // 10)
    return {
        **{name: summary[name] for name in ("channels", "taken", "ever", "from_start")},
        "early": sum(changes[:tenth]) / tenth,
        "late": sum(changes[-tenth:]) / tenth,
        "settled_epoch": -(-summary["settled"] // history.batches),
    }


def _hub(settings: ReproductionSettings) -> Path:
    return settings.folder / "figure5" / "hub"


def _tasks(settings: ReproductionSettings) -> list[str]:
    tasks = _hub(settings) / "tasks"
    return [path.name for path in tasks.iterdir()] if tasks.is_dir() else []
