"""How long something will take here: from one source pass and the ratios of the paper's Table 8."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import TYPE_CHECKING

import torch

from snow.data import Pictures, train_transform
from snow.data.published import PUBLISHED
from snow.experiments.reproduce.paper import LF_THROUGHPUT, SETS, TABLE8
from snow.methods.variant import Variant
from snow.source import Source
from snow.training.launch import open_fabric

if TYPE_CHECKING:
    from snow.experiments.reproduce.settings import ReproductionSettings


CAR = SETS.index("Car")
ROWS = {"fo": "FO", "fe": "FE", "ft": "FT", "mp": "MP", "pn": "PN", "snow": "SNOW-256", "lora": "FT", "head2toe": "FO"}
"""Whose speed a method has, about."""

FEW = 8
"""Pictures that are looked at to find out how long one takes."""


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds that a stage will take, about; more often less than more, since stages share passes of the source."""

    stage: str
    seconds: float


def training(work: ReproductionSettings, variant: Variant, pictures: Pictures, epochs: float) -> float:
    """Seconds to train a method for so many passes over pictures. On a CPU, steps and loading share the cores."""
    size = work.source.preprocessing.image_size
    step = step_seconds(variant, work.source.architecture, size, work.recipe.precision)
    loading = _loading_seconds(work, pictures)
    beside = open_fabric(work.recipe.precision).device.type != "cpu"
    return epochs * len(pictures) * (max(step, loading) if beside else step + loading)


def step_seconds(variant: Variant, architecture: str, image_size: int, precision: str) -> float:
    """Of training on pictures that are in memory, a picture."""
    theirs = LF_THROUGHPUT if variant.method == "lf" else TABLE8[ROWS[variant.method]][CAR][0]
    return pass_seconds(architecture, image_size, precision) * TABLE8["FO"][CAR][0] / theirs


@cache
def pass_seconds(architecture: str, image_size: int, precision: str) -> float:
    """Of the source alone, a picture."""
    fabric = open_fabric(precision)
    source = Source.open(architecture, False, image_size=image_size)
    fabric.to_device(source)
    images = torch.zeros(FEW, 3, image_size, image_size, dtype=torch.uint8, device=fabric.device)

    def once() -> float:
        started = time.perf_counter()
        with fabric.autocast():
            float(source(images, frozenset()).logits.float().sum())  # waits for the device
        return time.perf_counter() - started

    once()
    return median([once() for _ in range(3)]) / FEW


def _loading_seconds(work: ReproductionSettings, pictures: Pictures) -> float:
    """Of decoding and augmenting, a picture, with all loading processes at work."""
    seen = pictures.with_transform(train_transform(work.source.preprocessing, work.recipe.augment))
    places = range(0, len(seen), max(1, len(seen) // FEW))
    started = time.perf_counter()
    for place in places:
        seen[place, 0]
    return (time.perf_counter() - started) / len(places) / max(1, work.runtime.loading_workers())


def paper_seconds(variants: Sequence[Variant], epochs: float) -> float:
    """Of so many epochs of all five sets at the speeds of the paper's Table 8, one V100."""
    return epochs * sum(
        known.train / TABLE8[ROWS[variant.method]][SETS.index(known.column)][0]
        for variant in variants
        for known in PUBLISHED.values()
    )


def total(costs: Sequence[TimeEstimate]) -> float:
    return sum(cost.seconds for cost in costs)


def shown(seconds: float) -> str:
    """`3 h 20 min`, `12 min`, `40 s`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
