"""Answers a second when the source and all tasks are asked about the same pictures (paper, section 3.3)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from snow.experiments.params import per_task, tasks_of
from snow.experiments.reproduce import estimate
from snow.experiments.reproduce.accuracy import LITERAL
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.experiment import Experiment, Results
from snow.experiments.reproduce.panel import Pair, Panel
from snow.experiments.reproduce.paper import CLASSES, TABLE5_PARAMETERS, TABLE5_THROUGHPUT
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.record import begin, keep
from snow.experiments.results.table import circumstances
from snow.inference import SOURCE_HEAD, EagerEngine, Predictor
from snow.methods import Method
from snow.methods.variant import Variant
from snow.source import Source, meta_source
from snow.training.launch import open_fabric

ROUNDS = 3


class Bench:
    """A source with random weights and a batch of random pictures; speed does not depend on either.

    The batch passes the source once; then each task answers from its features, or with a network of its own.
    """

    def __init__(self, architecture: str, image_size: int, batch_size: int, precision: str) -> None:
        self.fabric = open_fabric(precision)
        torch.manual_seed(0)
        self.source = Source.open(architecture, False, image_size=image_size)
        self.fabric.to_device(self.source)
        self.predictor = Predictor(EagerEngine(self.source))
        shape = (batch_size, 3, image_size, image_size)
        images = torch.randint(256, shape, dtype=torch.uint8, device=self.fabric.device)
        self.images = images.contiguous(memory_format=torch.channels_last)

    def measure(self, variant: Variant, classes: Sequence[int]) -> dict[str, Any]:
        """`answers_per_second`, counted as picture × task, the source's own head among the tasks; and their range."""
        tasks = [task.export_form() for task in tasks_of(self.source, variant, classes)]
        methods: dict[str, Method | None] = {SOURCE_HEAD: None}
        for number, task in enumerate(tasks):
            self.fabric.to_device(task)
            methods[str(number)] = task
        answers = len(self.images) * len(methods)
        self._pass(methods)
        speeds = sorted(answers / self._pass(methods) for _ in range(ROUNDS))
        return {"answers_per_second": median(speeds), "answers_per_second_range": [speeds[0], speeds[-1]]}

    @torch.inference_mode()
    def _pass(self, methods: Mapping[str, Method | None]) -> float:
        """Time one pass of the source and all methods, in seconds."""
        started = time.perf_counter()
        with self.fabric.autocast():
            answers = self.predictor.logits(self.images, methods)
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        assert all(len(logits) == len(self.images) for logits in answers.values())
        return time.perf_counter() - started


ROWS = {"fo": "FO", "fe": "FE", "ft": "FT", "mp": "MP", "pn": "PN", LITERAL: "SNOW", "snow": "SNOW"}
PRECISION = "32"
"""As the paper's."""

COUNTING = 5
"""Seconds that it takes to build the networks of five tasks and count their parameters, about."""

LARGEST = {"cuda": 32, "mps": 32, "cpu": 4}
"""Pictures in a batch at most: on a CPU progressive nets take a minute for a few."""


class Table5(Experiment):
    name = "table5"
    title = "Table 5: parameters and throughput of serving six tasks"
    differs = (
        "The unit of the paper's throughput is not said; 7,061 images/s for FO make sense only as picture × task, "
        "since a sixth of it is what a V100 does with ResNet-50 in single precision: so that is counted here. Ratios "
        "between methods can be compared, absolute speeds belong to the hardware. Here tasks run one after the other "
        "in plain PyTorch, in single precision. The paper's row for FT is slower than six passes of a ResNet-50 "
        "should be, so the lead of all others over it comes out smaller here; and many small layers run slower than "
        "their arithmetic, by which SNOW would have 4.9 times the throughput of FT. What the paper's delta looks like "
        "was read off these counts: see [the page on rivals](rivals.md)."
    )
    methods = f"fo,fe,ft,mp,pn,{LITERAL},snow"
    needs_data = False

    def costs(self, work: ReproductionSettings) -> list[TimeEstimate]:
        missing = self._missing(work, self._begin(work))
        if not work.speeds or not missing:
            return [TimeEstimate(one.label, COUNTING) for one in missing]
        seconds = estimate.pass_seconds(work.bare, work.image_size, PRECISION) * _batch(work) * (1 + ROUNDS)
        share = {name: TABLE5_THROUGHPUT["FO"] / speed for name, speed in TABLE5_THROUGHPUT.items()}
        return [TimeEstimate(one.label, COUNTING + seconds * share[ROWS.get(one.label, "SNOW")]) for one in missing]

    def run(self, work: ReproductionSettings) -> dict[str, Any]:
        results = self._begin(work)
        missing = self._missing(work, results)
        bare = meta_source(work.bare, work.image_size)
        bench = Bench(work.bare, work.image_size, _batch(work), PRECISION) if missing and work.speeds else None
        for variant in missing:
            work.note(f"serving six tasks by {variant.label} …")
            counts = per_task(bare, variant, CLASSES)
            entry = {"total": bare.learned_parameters + sum(counts), "per_task": counts}
            results["methods"][variant.label] = {**entry, **(bench.measure(variant, CLASSES) if bench else {})}
            keep(_file(work), results)
        return {**results, "methods": {one.label: results["methods"][one.label] for one in self.variants(work)}}

    def origins(self, results: Results) -> list[str]:
        return [
            f"`{results['command']}`: {results['architecture']} at {results['image_size']} px with random weights, "
            f"batch {results['batch_size']}; {circumstances(results)}.\n"
        ]

    def panels(self, results: Results) -> list[Panel]:
        counts = {label: entry["total"] / 1e6 for label, entry in results["methods"].items()}
        speeds = {label: entry.get("answers_per_second") for label, entry in results["methods"].items()}
        panels = [Panel("parameters, M", _beside(TABLE5_PARAMETERS, counts))]
        if any(speeds.values()):
            panels.append(Panel("answers (picture × task) a second", _beside(TABLE5_THROUGHPUT, speeds), log=True))
        if slowest := speeds.get("ft"):
            paper = {row: speed / TABLE5_THROUGHPUT["FT"] for row, speed in TABLE5_THROUGHPUT.items()}
            here = {label: speed and speed / slowest for label, speed in speeds.items()}
            panels.append(Panel("answers, FT = 1", _beside(paper, here), digits=2))
        return panels

    def _missing(self, work: ReproductionSettings, results: Results) -> list[Variant]:
        wanted = {"total", "answers_per_second"} if work.speeds else {"total"}
        return [one for one in self.variants(work) if not wanted <= results["methods"].get(one.label, {}).keys()]

    def _begin(self, work: ReproductionSettings) -> dict[str, Any]:
        settings = {
            "architecture": work.bare,
            "image_size": work.image_size,
            "batch_size": _batch(work),
            "classes": list(CLASSES),
        }
        return begin(_file(work), settings, {"methods": {}})


def _beside(paper: Mapping[str, float], here: Mapping[str, float | None]) -> dict[str, Pair]:
    return {label: (paper.get(ROWS.get(label, "")), figure) for label, figure in here.items()}


def _batch(work: ReproductionSettings) -> int:
    return min(work.recipe.batch_size, LARGEST[open_fabric(PRECISION).device.type])


def _file(work: ReproductionSettings) -> Path:
    return work.folder / f"{Table5.name}.measured.json"
