"""Show a method some training pictures before its first step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from snow.inference.features import in_full_precision, observe
from snow.methods import Method
from snow.source import Features, Source
from snow.training.job import TrainingJob
from snow.training.loader import DeviceLoader, sequential_batches
from snow.training.training_data import TrainingData

if TYPE_CHECKING:
    from lightning_fabric import Fabric


MAX_ROWS = 2400
"""Views of pictures that a start by evidence learns from, where one augmented view of each is less."""

MAX_AUGMENTED_VIEWS = 4
"""Augmented views of each picture, where pictures are few."""


def calibrate_learners(source: Source, data: TrainingData, job: TrainingJob, fabric: Fabric) -> None:
    """Calibrate all methods of a run. Of methods that start by evidence and are equal, one does it for all.

    Args:
        source: in the precision of the run.
    """
    done: list[tuple[_Before, Method]] = []
    for name, method in job.learners.items():
        before = _Before.of(method, data.labels[name].column)
        twin = next((other for known, other in done if known.equals(before)), None)
        layout = None if twin is None else twin.layout()
        if twin is not None and layout is not None:
            method.set_layout(layout)
            method.load_state_dict(twin.state_dict())
            continue
        calibrate(name, method, source, data, job, fabric)
        if method.starts_by_evidence:
            done.append((before, method))


@dataclass(frozen=True)
class _Before:
    """All that the calibration of a method depends on, beside the run."""

    config: dict[str, Any]
    column: int
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, method: Method, column: int) -> Self:
        tensors = method.state_dict() if method.starts_by_evidence else {}
        return cls(method.config, column, {name: value.clone() for name, value in tensors.items()})

    def equals(self, other: _Before) -> bool:
        return (
            (self.config, self.column) == (other.config, other.column)
            and self.tensors.keys() == other.tensors.keys()
            and all(torch.equal(value, other.tensors[name]) for name, value in self.tensors.items())
        )


def calibration_sample(learner: str, data: TrainingData, job: TrainingJob) -> Tensor:
    """Draw the training pictures that a method may look at before the first step: (n,) of indices."""
    labelled = (data.train.labels[:, data.labels[learner].column] >= 0).nonzero().flatten()
    generator = torch.Generator().manual_seed(job.recipe.seed)
    return labelled[torch.randperm(len(labelled), generator=generator)][: job.recipe.calibration]


def calibrate(
    learner: str, method: Method, source: Source, data: TrainingData, job: TrainingJob, fabric: Fabric
) -> None:
    """Show a method up to `job.recipe.calibration` random training pictures that have a label for its task.

    They come without augmentation, as float32 features, the same in every process. Nothing is loaded if the method
    does not iterate. A method that starts by evidence also sees augmented views of them.

    Args:
        source: in the precision of the run.
    """
    labels, sample = data.labels[learner], calibration_sample(learner, data, job)
    if not len(sample):
        return
    views = 1
    likelihood = labels.kind.likelihood
    by_evidence = method.starts_by_evidence and likelihood is not None
    if by_evidence and job.recipe.augment != "none":
        views += min(MAX_AUGMENTED_VIEWS, max(1, MAX_ROWS // len(sample)))

    def batches() -> Iterator[tuple[Features, Tensor]]:
        workers = job.runtime.loading_workers(fabric.world_size)
        for view in range(views):
            pictures = data.train if view == 0 else data.augmented()
            batches = sequential_batches(sample.tolist(), job.recipe.batch_size)
            keys = batches if view == 0 else [data.view_keys(batch, view) for batch in batches]
            for images, numbers in DeviceLoader(pictures, keys, workers, fabric.device):
                with fabric.autocast():
                    features = observe(source, [method], images)
                yield in_full_precision(features), labels.standardised(numbers) if by_evidence else labels(numbers)

    method.eval()
    if by_evidence:
        method.calibrate_views(batches(), views, data.learned(learner, sample), likelihood)
    else:
        method.calibrate(batches())
