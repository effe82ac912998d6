"""Show a method some training pictures before its first step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snow.data import Pictures
from snow.inference.features import in_full_precision, observe
from snow.methods import Method
from snow.source import Features, Source
from snow.training.job import TrainingJob
from snow.training.loader import DeviceLoader, sequential_batches
from snow.training.task_labels import TaskLabels

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def calibrate(
    method: Method, labels: TaskLabels, source: Source, pictures: Pictures, job: TrainingJob, fabric: Fabric
) -> None:
    """Show a method up to `job.recipe.calibration` random training pictures that have a label for its task.

    They come without augmentation, as float32 features, the same in every process. Nothing is loaded if the method
    does not iterate.

    Args:
        labels: which of the labels, (n, T), are the method's.
        source: in the precision of the run.
        pictures: with the transform of evaluation.
    """
    labelled = (pictures.labels[:, labels.column] >= 0).nonzero().flatten()
    generator = torch.Generator().manual_seed(job.recipe.seed)
    sample = labelled[torch.randperm(len(labelled), generator=generator)][: job.recipe.calibration].tolist()

    def batches() -> Iterator[tuple[Features, Tensor]]:
        workers = job.runtime.loading_workers(fabric.world_size)
        keys = sequential_batches(sample, job.recipe.batch_size)
        for images, numbers in DeviceLoader(pictures, keys, workers, fabric.device):
            with fabric.autocast():
                features = observe(source, [method], images)
            yield in_full_precision(features), labels(numbers)

    if sample:
        method.eval()
        method.calibrate(batches())
