"""How often a method is right."""

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
from snow.training.loader import DeviceLoader, in_turn
from snow.training.process_group import ProcessGroup

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Metrics:
    """Fractions of `images` labelled pictures whose class was the first, or among the first five, of the answers."""

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
    workers: int = 0,
    precision: str = "auto",
    accelerator: str = "auto",
    fabric: Fabric | None = None,
) -> dict[str, Metrics]:
    """Measures some methods on one source pass, with centre crops and no augmentation.

    Args:
        source: moved to the device, as are the methods.
        learners: name -> method.
        pictures: with labels (n, T); -1 is not counted.
        tasks: names of the T label columns. Not needed if T is 1: then all learners have the same task.
        batch_size: over all processes.
        workers: loading processes.
        precision: as in `Recipe`; what learned computes as a `fabric` says, if there is one.
        accelerator: "auto", "cpu", "cuda" or "mps"; not looked at if there is a `fabric`.
        fabric: one that is launched already; its processes share the pictures.

    Raises:
        SnowError: a learner without a label column, or a picture that cannot be read.
    """
    fabric = fabric or open_fabric(precision, accelerator)
    peers = ProcessGroup(fabric)
    columns = label_columns(learners, pictures.labels.shape[1], tasks)
    fabric.to_device(source)
    if any(method.uses_source for method in learners.values()):
        source = source_for_precision(
            source, precision
        )  # as in training: in bf16 another order of sums answers otherwise
    for method in learners.values():
        fabric.to_device(method)
    shares = in_turn(range(len(pictures)), max(1, batch_size // peers.count), peers.rank, peers.count)
    shown = pictures.with_transform(eval_transform(source.preprocessing))
    loading = DeviceLoader(shown, shares, workers, fabric.device)
    return evaluate_batches(learners, columns, LiveFeatures(source, loading), fabric)


def label_columns(learners: Iterable[str], width: int, tasks: Sequence[str] | None) -> dict[str, int]:
    """Which label of a picture is a learner's: that of the task with its name, or the only one there is."""
    if width == 1:
        return dict.fromkeys(learners, 0)
    names = list(tasks or ())
    strangers = [name for name in learners if name not in names]
    if strangers:
        known = ", ".join(names) or "not named"
        raise SnowError(f"no labels for {', '.join(strangers)}: the {width} tasks of the pictures are {known}")
    return {name: names.index(name) for name in learners}


@torch.no_grad()
def evaluate_batches(
    learners: Mapping[str, Method],
    columns: Mapping[str, int],
    batches: Iterable[FeatureBatch],
    fabric: Fabric,
) -> dict[str, Metrics]:
    """As `evaluate`, with everything in its place."""
    counts = torch.zeros(len(learners), 3, dtype=torch.int64, device=fabric.device)
    with ExitStack() as modes:
        for method in learners.values():
            modes.enter_context(_answering(method))
        methods = list(learners.values())
        for batch in batches:
            with fabric.autocast():
                seen = zip(methods, batch.features(methods), strict=True)
                answers = [method(features) for method, features in seen]
            for row, (name, logits) in enumerate(zip(learners, answers, strict=True)):
                truth = batch.labels[:, columns[name]]
                ranked = logits.float().topk(min(5, logits.shape[1])).indices == truth[:, None]
                counts[row] += torch.stack([ranked[:, 0].sum(), ranked.sum(), (truth >= 0).sum()])
    totals = ProcessGroup(fabric).sum(counts).tolist()
    return {
        name: Metrics(first / max(1, images), five / max(1, images), images)
        for name, (first, five, images) in zip(learners, totals, strict=True)
    }


@contextmanager
def _answering(method: Method) -> Generator[None]:
    """Eval mode, and the mode it had afterwards."""
    was_training = method.training
    method.eval()
    try:
        yield
    finally:
        method.train(was_training)
