"""Measure the accuracy of methods."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from snow.data import Pictures, eval_transform
from snow.errors import SnowError
from snow.inference.features import FeatureBatch, LiveFeatures
from snow.inference.onnx_backend import source_for_precision
from snow.methods import Method
from snow.source import Source
from snow.training.launch import open_fabric
from snow.training.loader import DeviceLoader, sequential_batches
from snow.training.process_group import ProcessGroup
from snow.training.runtime import Runtime

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Metrics:
    """Top-1 and top-5 accuracy on `images` labelled pictures, as fractions."""

    top1: float
    top5: float
    images: int

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def evaluate(
    source: Source,
    learners: Mapping[str, Method],
    pictures: Pictures,
    *,
    tasks: Sequence[str] | None = None,
    batch_size: int = 64,
    precision: str = "auto",
    runtime: Runtime | None = None,
    fabric: Fabric | None = None,
) -> dict[str, Metrics]:
    """Measure methods on one pass of the source, with centre crops and no augmentation.

    Args:
        source: moved to the device, as are the methods.
        learners: name -> method.
        pictures: with labels (n, T); -1 is not counted.
        tasks: names of the T label columns. Not needed if T is 1: then all learners have the same task.
        batch_size: over all processes.
        precision: as in `Recipe`; of the source only, if there is a `fabric`.
        runtime: accelerator and loading processes; by default pictures are loaded in this process.
        fabric: one that is launched already; its processes share the pictures.

    Raises:
        SnowError: a learner without a label column, or a picture that cannot be read.
    """
    runtime = runtime or Runtime(workers=0)
    fabric = fabric or open_fabric(precision, runtime.accelerator)
    group = ProcessGroup(fabric)
    columns = label_columns(learners, pictures.labels.shape[1], tasks)
    fabric.to_device(source)
    if any(method.uses_source for method in learners.values()):
        # fused as in training: in bf16 another order of sums gives other logits
        source = source_for_precision(source, precision)
    for method in learners.values():
        fabric.to_device(method)
    keys = sequential_batches(range(len(pictures)), max(1, batch_size // group.count), group.rank, group.count)
    cropped = pictures.with_transform(eval_transform(source.preprocessing))
    loader = DeviceLoader(cropped, keys, runtime.loading_workers(group.count), fabric.device)
    return evaluate_batches(learners, columns, LiveFeatures(source, loader), fabric)


def label_columns(learners: Iterable[str], width: int, tasks: Sequence[str] | None) -> dict[str, int]:
    """Map each learner to its label column: that of the task with its name, or the only one there is."""
    if width == 1:
        return dict.fromkeys(learners, 0)
    names = list(tasks or ())
    unknown = [name for name in learners if name not in names]
    if unknown:
        known = ", ".join(names) or "not named"
        raise SnowError(f"no labels for {', '.join(unknown)}: the {width} tasks of the pictures are {known}")
    return {name: names.index(name) for name in learners}


@torch.no_grad()
def evaluate_batches(
    learners: Mapping[str, Method],
    columns: Mapping[str, int],
    batches: Iterable[FeatureBatch],
    fabric: Fabric,
) -> dict[str, Metrics]:
    """Measure methods on batches of features, as `evaluate`. `columns`: the label column of each learner."""
    counts = torch.zeros(len(learners), 3, dtype=torch.int64, device=fabric.device)
    with ExitStack() as modes:
        for method in learners.values():
            modes.enter_context(_eval_mode(method))
        methods = list(learners.values())
        for batch in batches:
            with fabric.autocast():
                pairs = zip(methods, batch.features(methods), strict=True)
                outputs = [method(features) for method, features in pairs]
            for row, (name, logits) in enumerate(zip(learners, outputs, strict=True)):
                labels = batch.labels[:, columns[name]]
                correct = logits.float().topk(min(5, logits.shape[1])).indices == labels[:, None]
                counts[row] += torch.stack([correct[:, 0].sum(), correct.sum(), (labels >= 0).sum()])
    totals = ProcessGroup(fabric).sum(counts).tolist()
    return {
        name: Metrics(top1 / max(1, images), top5 / max(1, images), images)
        for name, (top1, top5, images) in zip(learners, totals, strict=True)
    }


@contextmanager
def _eval_mode(method: Method) -> Generator[None]:
    """Put a method in eval mode for a block, and back in the mode it had."""
    was_training = method.training
    method.eval()
    try:
        yield
    finally:
        method.train(was_training)
