"""What a learner makes of the labels of a batch, and the loss that follows from their kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from snow.data import Pictures, Task
from snow.errors import SnowError, shortened
from snow.kinds import ClassKind, LabelKind, LossOptions
from snow.kinds.choices import named_weights
from snow.methods import Method

if TYPE_CHECKING:
    from snow.training.recipe import Recipe


@dataclass(frozen=True)
class TaskLabels:
    """The labels of one task among those of a batch.

    Attributes:
        column: of the task in the labels, (n, T).
        kind: of its labels.
        table: (M + 1, W), the target of each label, and a last row of NaN for those without; None: the label's number
            is learned.
        options: of the loss.
    """

    column: int
    kind: LabelKind
    table: Tensor | None = None
    options: LossOptions = LossOptions()  # noqa: RUF009  frozen

    @classmethod
    def of(cls, column: int, task: Task, device: torch.device) -> Self:
        """Prepare the labels of a task on a device."""
        targets = task.targets
        if targets is None:
            return cls(column, task.kind)
        nothing = targets.new_full((1, targets.shape[1]), torch.nan)
        return cls(column, task.kind, torch.cat([targets, nothing]).float().to(device))

    @classmethod
    def classes(cls, count: int, column: int = 0, smoothing: float = 0.0) -> Self:
        """Take a column of labels for the numbers of so many classes."""
        return cls(column, ClassKind(tuple(map(str, range(count)))), options=LossOptions(smoothing))

    def __call__(self, labels: Tensor) -> Tensor:
        """Return what a method learns of a batch: (B, T) -> (B,) numbers of classes, or (B, W) targets."""
        numbers = labels[:, self.column]
        return numbers if self.table is None else self.table[numbers]

    def standardised(self, labels: Tensor) -> Tensor:
        """Return what `__call__` does, targets in the units of the outputs: (B, T) -> (B,) or (B, W)."""
        learned = self(labels)
        return learned if self.table is None else self.kind.standardised(learned)

    def with_loss(self, recipe: Recipe, pictures: Pictures, device: torch.device) -> Self:
        """Set the options of the loss from a recipe and the training pictures, on a device."""
        weights = None
        if recipe.class_weights is not None:
            weights = self.kind.weights(self(pictures.labels.to(device)).cpu(), recipe.class_weights)
        weights = None if weights is None else weights.to(device)
        return replace(self, options=LossOptions(recipe.label_smoothing, weights, recipe.number_loss == "squared"))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the sum of losses of a batch: (B, W) and what `__call__` gave -> a scalar."""
        return self.kind.loss(logits, labels, self.options)


def task_labels(
    learners: Iterable[str], tasks: Sequence[Task], device: torch.device | str = "cpu"
) -> dict[str, TaskLabels]:
    """Find the labels of each learner: those of the task with its name, or of the only task there is.

    Raises:
        SnowError: there is no task for a learner.
    """
    device = torch.device(device)
    columns = label_columns(learners, len(tasks), [task.name for task in tasks])
    prepared = {column: TaskLabels.of(column, tasks[column], device) for column in set(columns.values())}
    return {name: prepared[column] for name, column in columns.items()}


def require_weighted_names(recipe: Recipe, kinds: Sequence[LabelKind]) -> None:
    """Raises SnowError: the class weights of a recipe name a class or tag that no task has."""
    if recipe.class_weights in (None, "balanced"):
        return
    known = {name for kind in kinds for name in kind.names}
    for name in named_weights(str(recipe.class_weights)):
        if name not in known:
            raise SnowError(f"class weights name {name!r}, which is no class and no tag of {shortened(sorted(known))}")


def class_labels(learners: Mapping[str, Method], width: int, tasks: Sequence[str] | None) -> dict[str, TaskLabels]:
    """Take the labels of pictures for numbers of classes, of as many as each method has outputs.

    Raises:
        SnowError: there is no label column for a learner.
    """
    columns = label_columns(learners, width, tasks)
    return {name: TaskLabels.classes(method.num_classes, columns[name]) for name, method in learners.items()}


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
