"""What a method may look at before its first step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snow.data import Pictures
from snow.inference.features import in_full_precision, observe
from snow.methods import Method
from snow.source import Features, Source
from snow.training.loader import DeviceLoader, in_turn
from snow.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def calibrate(method: Method, column: int, source: Source, pictures: Pictures, recipe: Recipe, fabric: Fabric) -> None:
    """Shows a method up to `recipe.calibration` training pictures at random that have a label for its task.

    They come without augmentation, as float32 features, the same in every process. Nothing is loaded if the method
    does not ask.

    Args:
        column: of the labels, (n, T), that is the method's.
        pictures: with the transform of evaluation.
    """
    labelled = (pictures.labels[:, column] >= 0).nonzero().flatten()
    generator = torch.Generator().manual_seed(recipe.seed)
    chosen = labelled[torch.randperm(len(labelled), generator=generator)][: recipe.calibration].tolist()

    def batches() -> Iterator[tuple[Features, Tensor]]:
        workers = recipe.loading_workers(fabric.world_size)
        for images, labels in DeviceLoader(pictures, in_turn(chosen, recipe.batch_size), workers, fabric.device):
            with fabric.autocast():
                features = observe(source, [method], images)
            yield in_full_precision(features), labels[:, column]

    if chosen:
        method.eval()
        method.calibrate(batches())
