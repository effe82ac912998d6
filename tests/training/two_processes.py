"""A script that trains on two processes: those that `fit` starts, or those that torchrun has started.

python two_processes.py FOLDER            uninterrupted
torchrun … two_processes.py FOLDER        interrupted in its second process, resumed
"""

from __future__ import annotations

import json
import os
import signal
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tiny import Blind, Noisy, built, picture, tiny_dataset, tiny_recipe, tiny_runtime, tiny_source
from torch import Tensor

from snow.data import Dataset, Pictures
from snow.process.interrupt import Interrupted
from snow.source import Features
from snow.training.fit import fit
from snow.training.history import Fitted

FOLDER = "TWO_PROCESSES_FOLDER"
"""Environment variable: where the processes leave their traces."""


def folder() -> Path:
    return Path(os.environ[FOLDER])


class Telling(Noisy):
    """Writes what a process answers with, and can be stopped in one process."""

    stop_at = -1

    def selected_mask(self) -> dict[str, Tensor]:
        return {self.tap: self.classifier.weight.flatten() > 0}

    def forward(self, features: Features) -> Tensor:
        rank = os.environ["RANK"]
        if not self.training:
            torch.save(self.state_dict(), folder() / f"rank-{rank}.pt")
        elif rank == "1" and self.seen == self.stop_at:
            signal.raise_signal(signal.SIGTERM)
        return super().forward(features)


def told(index: int) -> Image.Image:
    """A picture that leaves a trace of the process that it was loaded by."""
    (folder() / "loaded" / f"{os.environ['RANK']}-{index}").touch()
    return picture(index, index % 3)


def train(stop_at: int = -1, **options: Any) -> tuple[Fitted, dict[str, Any]]:
    (folder() / "loaded").mkdir(exist_ok=True)
    dataset = tiny_dataset(tasks=2)
    items = [partial(told, index) for index in range(len(dataset.train))]
    dataset = Dataset(dataset.tasks, Pictures(items, dataset.train.labels), dataset.test)
    learners = {"colour": built(Telling), "shade": built(Blind)}
    learners["colour"].stop_at = stop_at
    recipe, runtime = tiny_recipe(epochs=2, calibration=0), tiny_runtime(workers=1, devices=2)
    return fit(tiny_source(), learners, dataset, recipe, runtime=runtime, **options), learners


def main() -> None:
    warnings.simplefilter("error")
    checkpoint = folder() / "checkpoint.pt"
    try:
        train(stop_at=2, checkpoint=checkpoint)
    except Interrupted as interrupted:
        (folder() / f"interrupted-{os.environ['RANK']}").write_text(str(interrupted))
    fitted, _ = train(checkpoint=checkpoint, resume=True)
    if fitted.is_first:
        (folder() / "losses.json").write_text(json.dumps([record.loss for record in fitted.history]))


if __name__ == "__main__":
    main()
