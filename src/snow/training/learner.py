"""One method in the training loop, with its optimizer, running means and early stopping."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from snow.errors import SnowError
from snow.methods import Method
from snow.source import Features
from snow.training.guard import Guard
from snow.training.history import RunningMeans
from snow.training.recipe import Recipe
from snow.training.selection_recorder import SelectionRecorder
from snow.training.task_labels import TaskLabels
from snow.training.weight_average import WeightAverage

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Learner:
    """Trains one method. Learners are independent of each other.

    Args:
        name: of the learner in the run.
        method: already on the device.
        labels: which of the labels, (n, T), are the learner's, and their loss.
        recipe: optimizer, schedule, averaging and stopping.
        fabric: device and precision. With fp16 the loss is scaled against its narrow range.
        guarded: keep the start that calibration found by evidence, if it did, unless training is better.
    """

    def __init__(
        self,
        name: str,
        method: Method,
        labels: TaskLabels,
        recipe: Recipe,
        fabric: Fabric,
        guarded: bool = False,
    ) -> None:
        self.name = name
        self.method = method
        self.labels = labels
        self.column = labels.column
        self.means = RunningMeans()
        self.stopped = False
        self.lr = 0.0
        self.recorder = SelectionRecorder(method)
        self._recipe = recipe
        self._optimizer = _optimizer(method, recipe, fabric.device)
        self._scaler = torch.amp.GradScaler(
            fabric.device.type, enabled=fabric.strategy.precision.precision == "16-mixed"
        )
        self._average = WeightAverage(method, recipe.ema) if recipe.ema else None
        likelihood = labels.kind.likelihood
        self.guard = Guard(method, likelihood) if guarded and method.evidence and likelihood is not None else None
        self._best_score = -math.inf
        self._best_weights: dict[str, Tensor] = {}
        self._epochs_since_best = 0

    def prepare(self, rate: float, progress: float) -> None:
        """Set the learning rate before a step. `rate`: factor of the recipe's; `progress`: of the run, 0..1."""
        self.method.set_progress(progress)
        self.lr = self._recipe.lr * rate
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr * group["lr_scale"]

    def loss(self, features: Features, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch plus the method's penalty.

        Args:
            features: of B pictures.
            labels: (B, T), of all tasks, -1 where there is none.
            count: number of labels of the task in the batch, over all processes.

        Returns:
            This process's part of the mean loss, scaled for fp16, to be differentiated; and (2,), the sum of losses
            and the number of correct predictions.
        """
        logits, learned = self.method(features), self.labels(labels)
        total = self.labels.loss(logits, learned)
        if (penalty := self.method.penalty()) is not None:
            total = total + penalty * (labels[:, self.column] >= 0).sum()
        correct = self.labels.kind.hits(logits.detach(), learned)
        return self._scaler.scale(total / count), torch.stack([total.detach(), correct.float()])

    def step(self) -> None:
        """Update the weights with the gradients of the method's parameters, and clear these."""
        if self._recipe.clip_grad:
            self._scaler.unscale_(self._optimizer)
            clip_grad_norm_(self.method.parameters(), self._recipe.clip_grad)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update()

    @contextmanager
    def averaged_weights(self) -> Generator[None]:
        """Let the method hold the weights that would be kept if the run ended now."""
        with self._average.swapped_in() if self._average is not None else nullcontext():
            yield

    def update_best(self, score: float) -> None:
        """After an epoch, inside `averaged_weights`: keep the best weights, and stop if they are old enough."""
        if self._recipe.patience is None:
            return
        if score > self._best_score:
            self._best_score = score
            self._best_weights = {name: value.clone() for name, value in self.method.state_dict().items()}
            self._epochs_since_best = 0
        else:
            self._epochs_since_best += 1
        self.stopped = self._epochs_since_best >= self._recipe.patience

    def finish(self) -> None:
        """Leave the method in eval mode with the weights to keep: the best, the average, or the last."""
        if self.guard is not None:
            self.guard.finish()
        elif self._best_weights:
            self.method.load_state_dict(self._best_weights)
        elif self._average is not None:
            self.method.load_state_dict(self._averaged())
        self.method.eval()

    def is_finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.method.parameters())

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on, as tensors and plain values."""
        return {
            "method": self.method.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average.state_dict() if self._average is not None else None,
            "totals": [self.means.loss, self.means.correct, self.means.labels],
            "stopped": self.stopped,
            "lr": self.lr,
            "choices": self.recorder.state_dict(),
            "best": [self._best_score, self._epochs_since_best, self._best_weights],
            "layout": self.method.layout(),
            "guard": None if self.guard is None else self.guard.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self._optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.means = RunningMeans(*state["totals"])
        self.stopped, self.lr = state["stopped"], state["lr"]
        self.recorder.load_state_dict(state["choices"])
        self._best_score, self._epochs_since_best, self._best_weights = state["best"]
        if self.guard is not None:
            self.guard.load_state_dict(state["guard"])

    def _averaged(self) -> dict[str, Tensor]:
        with self.averaged_weights():
            return {name: value.clone() for name, value in self.method.state_dict().items()}


def _optimizer(method: Method, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    groups = method.parameter_groups(recipe.weight_decay)
    if not any(group["params"] for group in groups):
        raise SnowError(f"{type(method).__name__} has nothing to learn")
    groups = [{"lr_scale": 1.0, **group} for group in groups if group["params"]]
    fused = device.type in ("cpu", "cuda")
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=fused)
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused)
