"""Figure 5: which channels are chosen, over the time of training."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import asdict
from pathlib import Path
from typing import Any

from snow.errors import SnowError
from snow.experiments.plots.channels import draw_choice
from snow.experiments.reproduce import estimate
from snow.experiments.reproduce.accuracy import COLUMNS
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.sets import title
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.record import begin, keep
from snow.experiments.results.table import markdown_table, origin
from snow.hub import Hub
from snow.hub.folder import read_selection_history
from snow.methods import SnowConfig
from snow.subscribe import SelectionHistory
from snow.training.checkpoint import data_digest
from snow.training.train import train


class Figure5(Experiment):
    name = "figure5"
    title = "Figure 5: channels chosen over the time of training"
    differs = (
        "The paper shows one map of its task Car, and says that the choice changes often at first and settles after "
        "some epochs; all maps are shown here, without the noise of training, of the paper's delta, learned with a "
        "weight column for each channel, or another variant of method snow. Early and late count, of the channels "
        "taken, those that the moment before had not taken, in the first and the last tenth of the moments that were "
        "looked at."
    )
    methods = COLUMNS

    def costs(self, work: ReproductionSettings) -> list[TimeEstimate]:
        opened = work.one("Car")
        if opened.found.key in _tasks(work):
            return []
        [variant] = self.variants(work)
        return [TimeEstimate(variant.label, estimate.training(work, variant, opened.dataset.train, work.recipe.epochs))]

    def run(self, work: ReproductionSettings) -> dict[str, Any]:
        opened = work.one("Car")
        variants = self.variants(work)
        if len(variants) != 1 or variants[0].method != "snow":
            raise SnowError("figure5 shows one variant of method snow: --methods snow, say")
        settings = {
            "source": work.source.description(),
            "data": {"set": opened.found.key, "fingerprint": data_digest(opened.dataset)},
            "recipe": work.recipe.to_dict(),
            "options": asdict(SnowConfig.from_dict(variants[0].config)),
        }
        out = work.folder / "figure5" / "run.json"
        results = begin(out, settings, {"taps": {}})
        keep(out, results)
        hub = Hub.create(_hub(work), work.source)
        if opened.found.key not in hub.names():
            heard = work.listeners(f"{opened.found.key}: {variants[0].label}")
            config = variants[0].config
            train(hub, opened.dataset, work.recipe, config=config, listeners=heard, resume=True)
        choices = read_selection_history(hub.path, opened.found.key)
        results["taps"] = {tap: _summary(choices, tap) for tap in choices.masks}
        keep(out, results)
        kept = b64encode(choices.to_bytes()).decode()
        return {**results, "label": variants[0].label, "set": opened.to_dict(), "choices": kept}

    def origins(self, results: Results) -> list[str]:
        where = f"{results['label']} on {title(results['set'])}"
        return [f"{where}. {origin(results, [results['recipe']['seed']])}"]

    def body(self, results: Results) -> str:
        columns = (
            "map",
            "channels",
            "taken",
            "from the start",
            "early newcomers %",
            "late newcomers %",
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
        choices = SelectionHistory.from_bytes(b64decode(results["choices"]), self.name)
        draw_choice(choices, f"channels taken by {results['label']} on {title(results['set'])}", path)


def _summary(choices: SelectionHistory, tap: str) -> dict[str, Any]:
    found = choices.summary(tap)
    changes = [count / found["taken"] for count in found["newcomers"]]
    tenth = max(1, len(changes) // 10)
    return {
        **{name: found[name] for name in ("channels", "taken", "ever", "from_start")},
        "early": sum(changes[:tenth]) / tenth,
        "late": sum(changes[-tenth:]) / tenth,
        "settled_epoch": -(-found["settled"] // choices.batches),
    }


def _hub(work: ReproductionSettings) -> Path:
    return work.folder / "figure5" / "hub"


def _tasks(work: ReproductionSettings) -> list[str]:
    tasks = _hub(work) / "tasks"
    return [path.name for path in tasks.iterdir()] if tasks.is_dir() else []
