"""Measure methods on labelled pictures."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from snow.data import Pictures, Task, eval_transform
from snow.inference.features import FeatureBatch, LiveFeatures
from snow.inference.onnx_backend import source_for_precision
from snow.kinds import Metrics
from snow.methods import Method
from snow.source import Source
from snow.training.launch import open_fabric
from snow.training.loader import DeviceLoader, sequential_batches
from snow.training.process_group import ProcessGroup
from snow.training.runtime import Runtime
from snow.training.task_labels import TaskLabels, class_labels, task_labels

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def evaluate(
    source: Source,
    learners: Mapping[str, Method],
    pictures: Pictures,
    *,
    tasks: Sequence[str] | Sequence[Task] | None = None,
    batch_size: int = 64,
    precision: str = "32",
    runtime: Runtime | None = None,
    fabric: Fabric | None = None,
) -> dict[str, Metrics]:
    """Measure methods on one pass of the source, with centre crops and no augmentation.

    Args:
        source: moved to the device, as are the methods.
        learners: name -> method.
        pictures: with labels (n, T); -1 is not counted.
        tasks: the T tasks of the label columns, or their names where all labels are classes. Not needed if T is 1 and
            the labels are classes: then all learners have the same task.
        batch_size: over all processes.
        precision: as in `Recipe`; of the source only, if there is a `fabric`. Tasks answer in single precision, which
            is why that is the default whatever they were trained in.
        runtime: accelerator and loading processes; by default pictures are loaded in this process.
        fabric: one that is launched already; its processes share the pictures.

    Raises:
        SnowError: a learner without a label column, or a picture that cannot be read.
    """
    runtime = runtime or Runtime(workers=0)
    fabric = fabric or open_fabric(precision, runtime.accelerator)
    group = ProcessGroup(fabric)
    labels = _labels(learners, pictures, tasks, fabric.device)
    fabric.to_device(source)
    if any(method.uses_source for method in learners.values()):
        # fused as in training: in bf16 another order of sums gives other logits
        source = source_for_precision(source, precision)
    for method in learners.values():
        fabric.to_device(method)
    keys = sequential_batches(range(len(pictures)), max(1, batch_size // group.count), group.rank, group.count)
    cropped = pictures.with_transform(eval_transform(source.preprocessing))
    loader = DeviceLoader(cropped, keys, runtime.loading_workers(group.count), fabric.device)
    return evaluate_batches(learners, labels, LiveFeatures(source, loader), fabric)


def _labels(
    learners: Mapping[str, Method],
    pictures: Pictures,
    tasks: Sequence[str] | Sequence[Task] | None,
    device: torch.device,
) -> dict[str, TaskLabels]:
    if tasks and all(isinstance(task, Task) for task in tasks):
        return task_labels(learners, cast(Sequence[Task], tasks), device)
    return class_labels(learners, pictures.labels.shape[1], cast("Sequence[str] | None", tasks))


def evaluate_batches(
    learners: Mapping[str, Method],
    labels: Mapping[str, TaskLabels],
    batches: Iterable[FeatureBatch],
    fabric: Fabric,
    autocast: bool = True,
) -> dict[str, Metrics]:
    """Measure methods on batches of features, as `evaluate`.

    Args:
        labels: of each learner.
        autocast: compute in the precision of `fabric`; otherwise in single precision.
    """
    evidence = collect_evidence(learners, labels, batches, fabric, autocast)
    return {name: labels[name].kind.metrics(values) for name, values in evidence.items()}


@torch.no_grad()
def collect_evidence(
    learners: Mapping[str, Method],
    labels: Mapping[str, TaskLabels],
    batches: Iterable[FeatureBatch],
    fabric: Fabric,
    autocast: bool = True,
) -> dict[str, Tensor]:
    """Collect what the metrics of each learner are computed from, over all processes: (n, k) on the CPU."""
    parts: dict[str, list[Tensor]] = {name: [] for name in learners}
    with ExitStack() as modes:
        for method in learners.values():
            modes.enter_context(_eval_mode(method))
        methods = list(learners.values())
        for batch in batches:
            with fabric.autocast() if autocast else nullcontext():
                pairs = zip(methods, batch.features(methods), strict=True)
                outputs = [method(features) for method, features in pairs]
            for name, logits in zip(learners, outputs, strict=True):
                parts[name].append(labels[name].kind.evidence(logits, labels[name](batch.labels)))
    group = ProcessGroup(fabric)
    empty = {name: _no_evidence(labels[name], method) for name, method in learners.items()}
    joined = {name: torch.cat([empty[name], *(part.cpu() for part in values)]) for name, values in parts.items()}
    return {name: group.gather(rows) for name, rows in joined.items()}


def _no_evidence(labels: TaskLabels, method: Method) -> Tensor:
    """Return the evidence of no pictures: (0, k)."""
    numbers = torch.zeros(0, 1, dtype=torch.int64)
    column = TaskLabels(0, labels.kind, None if labels.table is None else labels.table.cpu())
    return labels.kind.evidence(torch.zeros(0, method.num_classes), column(numbers))


@torch.no_grad()
def collect_logits(
    learners: Mapping[str, Method], batches: Iterable[FeatureBatch], fabric: Fabric
) -> dict[str, Tensor]:
    """Return the logits of the parts of methods for all pictures: learner -> (n, P, C), float32 on the CPU."""
    methods = list(learners.values())
    logits: dict[str, list[Tensor]] = {name: [] for name in learners}
    with ExitStack() as modes:
        for method in methods:
            modes.enter_context(_eval_mode(method))
        for batch in batches:
            with fabric.autocast():
                for name, method, features in zip(learners, methods, batch.features(methods), strict=True):
                    logits[name].append(method.apart(features).float().cpu())
    return {name: torch.cat(parts) for name, parts in logits.items()}


@contextmanager
def _eval_mode(method: Method) -> Generator[None]:
    """Put a method in eval mode for a block, and back in the mode it had."""
    was_training = method.training
    method.eval()
    try:
        yield
    finally:
        method.train(was_training)
