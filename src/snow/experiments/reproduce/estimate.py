"""Estimate how long an experiment takes on this machine, from one source pass and the ratios of the paper's Table 8."""

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
ROWS = {"fo": "FO", "fe": "FE", "mp": "MP", "pn": "PN", "snow": "SNOW-256", "head2toe": "FO"}
"""Row of Table 8 whose speed each method has, roughly. All others are taken to be as slow as fine-tuning."""

SAMPLED = 8
"""Images that are timed to estimate one."""


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds that a stage takes, roughly. Methods share source passes, so it is more often too high than too low."""

    stage: str
    seconds: float


def training(settings: ReproductionSettings, variant: Variant, pictures: Pictures, epochs: float) -> float:
    """Estimate the seconds of training a method for some epochs. On a CPU, steps and loading share the cores."""
    size = settings.source.preprocessing.image_size
    step = step_seconds(variant, settings.source.architecture, size, settings.recipe.precision)
    loading = _loading_seconds(settings, pictures)
    overlaps = open_fabric(settings.recipe.precision).device.type != "cpu"
    return epochs * len(pictures) * (max(step, loading) if overlaps else step + loading)


def step_seconds(variant: Variant, architecture: str, image_size: int, precision: str) -> float:
    """Estimate the seconds per image of a training step, with images in memory."""
    pass_speed = TABLE8["FO"][CAR][0]
    return pass_seconds(architecture, image_size, precision) * pass_speed / _paper_speed(variant.method, CAR)


def _paper_speed(method: str, column: int) -> float:
    """Look up the images per second of training in the paper's Table 8."""
    return LF_THROUGHPUT if method == "lf" else TABLE8[ROWS.get(method, "FT")][column][0]


@cache
def pass_seconds(architecture: str, image_size: int, precision: str) -> float:
    """Time the source pass alone, in seconds per image."""
    fabric = open_fabric(precision)
    source = Source.open(architecture, False, image_size=image_size)
    fabric.to_device(source)
    images = torch.zeros(SAMPLED, 3, image_size, image_size, dtype=torch.uint8, device=fabric.device)

    def one_pass() -> float:
        started = time.perf_counter()
        with fabric.autocast():
            float(source(images, frozenset()).logits.float().sum())  # waits for the device
        return time.perf_counter() - started

    one_pass()
    return median([one_pass() for _ in range(3)]) / SAMPLED


def _loading_seconds(settings: ReproductionSettings, pictures: Pictures) -> float:
    """Time decoding and augmentation in seconds per image, with all loading workers busy."""
    augmented = pictures.with_transform(train_transform(settings.source.preprocessing, settings.recipe.augment))
    indices = range(0, len(augmented), max(1, len(augmented) // SAMPLED))
    started = time.perf_counter()
    for index in indices:
        augmented[index, 0]
    return (time.perf_counter() - started) / len(indices) / max(1, settings.runtime.loading_workers())


def paper_seconds(variants: Sequence[Variant], epochs: float) -> float:
    """Estimate training on all five datasets at the speeds of the paper's Table 8 (one V100)."""
    return epochs * sum(
        known.train / _paper_speed(variant.method, SETS.index(known.column))
        for variant in variants
        for known in PUBLISHED.values()
    )


def total(estimates: Sequence[TimeEstimate]) -> float:
    return sum(estimate.seconds for estimate in estimates)


def format_duration(seconds: float) -> str:
    """Format seconds: `3 h 20 min`, `12 min`, `40 s`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
