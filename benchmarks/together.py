"""Training images/s of several tasks that share each source pass, and of the same tasks trained one after another.

`python benchmarks/together.py --source resnet50 --tasks 3` prints JSON. Images are in memory, so that only the
training step is measured. Steps of both ways alternate, because a machine's speed drifts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch

from snow.experiments.results.record import provenance
from snow.inference.features import observe_channels
from snow.inference.fused import fuse_for_inference
from snow.methods import METHODS
from snow.process.startup import keep_freed_memory
from snow.source import Source
from snow.training import Recipe
from snow.training.launch import open_fabric
from snow.training.learner import Learner
from snow.training.task_labels import TaskLabels

WARM_UP = 2


def measure(
    architecture: str, tasks: int, image_size: int, batch_size: int, rounds: int, method: str, classes: int
) -> dict[str, Any]:
    """Measure images/s that all tasks were trained on: median and range over rounds, for each way."""
    recipe = Recipe(batch_size=batch_size)
    fabric = open_fabric(recipe.precision)
    torch.manual_seed(recipe.seed)
    source = Source.open(architecture, pretrained=architecture == "embedded", image_size=image_size)
    images = torch.randint(256, (batch_size, 3, image_size, image_size), dtype=torch.uint8, device=fabric.device)
    labels = torch.randint(classes, (batch_size, tasks), device=fabric.device)
    learners = []
    for column in range(tasks):
        built = METHODS[method].build(source, classes).train()
        fabric.to_device(built)
        learners.append(Learner(f"task-{column}", built, TaskLabels.classes(classes, column, 0.1), recipe, fabric))
    fabric.to_device(source)
    source = fuse_for_inference(source)

    def step(learning: Sequence[Learner]) -> None:
        for learner in learning:
            learner.prepare(1.0, 0.5)
        with fabric.autocast():
            feature_sets = observe_channels(source, [learner.method for learner in learning], images)
            losses = [
                learner.loss(features, labels, batch_size)[0]
                for learner, features in zip(learning, feature_sets, strict=True)
            ]
        torch.stack(losses).sum().backward()
        for learner in learning:
            learner.step()

    def speed(steps: Sequence[Callable[[], object]]) -> float:
        started = time.perf_counter()
        for run_step in steps:
            run_step()
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return batch_size / (time.perf_counter() - started)

    ways: dict[str, list[Callable[[], object]]] = {
        "together": [partial(step, learners)],
        "one_after_another": [partial(step, [learner]) for learner in learners],
        "source_alone": [partial(source, images.contiguous(memory_format=torch.channels_last), frozenset())],
    }
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(WARM_UP + rounds):
        for name, steps in ways.items():
            images_per_second = speed(steps)
            samples[name] += [images_per_second] if number >= WARM_UP else []
    pairs = zip(samples["together"], samples["one_after_another"], strict=True)
    return {
        **provenance(),
        "source": architecture,
        "image_size": image_size,
        "batch_size": batch_size,
        "tasks": tasks,
        "method": method,
        "precision": recipe.precision,
        "images_per_second": {name: _summary(speeds) for name, speeds in samples.items()},
        "speedup": _summary([together / in_turn for together, in_turn in pairs]),
    }


def _summary(samples: Sequence[float]) -> dict[str, float]:
    return {"median": median(samples), "least": min(samples), "most": max(samples)}


if __name__ == "__main__":
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", default="resnet50", dest="architecture")
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--method", default="snow", choices=[name for name, kind in METHODS.items() if kind.uses_source]
    )
    parser.add_argument("--classes", type=int, default=10)
    print(json.dumps(measure(**vars(parser.parse_args())), indent=2))
