"""Measure the accuracy of methods."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

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


ECE_BINS = 15


@dataclass(frozen=True)
class Metrics:
    """Top-1 and top-5 accuracy on `images` labelled pictures, as fractions.

    Attributes:
        confusion: (C, C), number of pictures by class and predicted class, if it was asked for.
        ece: expected calibration error, see `calibration_error`.
    """

    top1: float
    top5: float
    images: int
    confusion: Tensor | None = field(default=None, compare=False, repr=False)
    ece: float = field(default=0.0, compare=False)

    def to_dict(self) -> dict[str, float]:
        return {"top1": self.top1, "top5": self.top5, "images": self.images, "ece": round(self.ece, 4)}

    def per_class(self, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Describe each class: its pictures, those of them that were recognised, and what they were taken for.

        Args:
            classes: names in the order of the logits.

        Returns:
            `{CLASS: {"images", "correct", "recall", "predicted": {CLASS: pictures}}}`, with a recall of None for a
            class without pictures, and only predicted classes that occur.
        """
        if self.confusion is None:
            raise SnowError("predictions were not counted by class: evaluate with confusion=True")
        rows: dict[str, dict[str, Any]] = {}
        for number, (name, row) in enumerate(zip(classes, self.confusion, strict=True)):
            images, correct = int(row.sum()), int(row[number])
            predicted = {classes[other]: int(row[other]) for other in row.nonzero().flatten().tolist()}
            recall = correct / images if images else None
            rows[name] = {"images": images, "correct": correct, "recall": recall, "predicted": predicted}
        return rows


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
    confusion: bool = False,
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
        confusion: count the predictions by class, too.

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
    return evaluate_batches(learners, columns, LiveFeatures(source, loader), fabric, confusion)


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
    confusion: bool = False,
) -> dict[str, Metrics]:
    """Measure methods on batches of features, as `evaluate`. `columns`: the label column of each learner."""
    sizes = [method.num_classes if confusion else 0 for method in learners.values()]
    tables = [torch.zeros(size * size, dtype=torch.int64, device=fabric.device) for size in sizes]
    counts = torch.zeros(len(learners), 3, dtype=torch.int64, device=fabric.device)
    bins = torch.zeros(len(learners), 3, ECE_BINS, device=fabric.device)
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
                ranked = logits.float().topk(min(5, logits.shape[1])).indices
                correct = ranked == labels[:, None]
                counts[row] += torch.stack([correct[:, 0].sum(), correct.sum(), (labels >= 0).sum()])
                bins[row] += count_by_confidence(logits.float(), labels)
                if confusion:
                    cells = (labels * sizes[row] + ranked[:, 0])[labels >= 0]
                    tables[row] += torch.bincount(cells, minlength=sizes[row] ** 2)
    group = ProcessGroup(fabric)
    totals = group.sum(counts).tolist()
    errors = [calibration_error(table) for table in group.sum(bins).cpu()]
    confusions = [group.sum(table).cpu().view(size, size) for table, size in zip(tables, sizes, strict=True)]
    return {
        name: Metrics(top1 / max(1, images), top5 / max(1, images), images, table if confusion else None, error)
        for name, (top1, top5, images), table, error in zip(learners, totals, confusions, errors, strict=True)
    }


def count_by_confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Count pictures, right answers and the sum of confidences in bins of confidence: (B, C), (B,) -> (3, bins).

    The confidence of an answer is the probability of the predicted class. Pictures without a label (-1) do not count.
    """
    confidence, predicted = logits[labels >= 0].softmax(1).max(1)
    right = (predicted == labels[labels >= 0]).to(confidence)
    place = (confidence * ECE_BINS).long().clamp(max=ECE_BINS - 1)
    values = torch.stack([torch.ones_like(confidence), right, confidence])
    return torch.zeros(3, ECE_BINS, device=logits.device).index_add_(1, place, values)


def calibration_error(bins: Tensor) -> float:
    """Compute the expected calibration error of `count_by_confidence`: (3, bins) -> a number (Guo et al., 2017).

    The mean over pictures of |accuracy - mean confidence| of the bin that they are in.
    """
    pictures, right, confidence = bins
    return float((right - confidence).abs().sum() / pictures.sum().clamp(min=1))


@torch.no_grad()
def collect_logits(
    learners: Mapping[str, Method], batches: Iterable[FeatureBatch], fabric: Fabric
) -> dict[str, Tensor]:
    """Return the logits of methods for all pictures: learner -> (n, C), float32 on the CPU."""
    methods = list(learners.values())
    logits: dict[str, list[Tensor]] = {name: [] for name in learners}
    with ExitStack() as modes:
        for method in methods:
            modes.enter_context(_eval_mode(method))
        for batch in batches:
            with fabric.autocast():
                for name, method, features in zip(learners, methods, batch.features(methods), strict=True):
                    logits[name].append(method(features).float().cpu())
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
