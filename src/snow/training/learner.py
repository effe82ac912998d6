"""An exponential moving average of a method's weights."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from snow.errors import SnowError
from snow.methods import Method
from snow.source import Features
from snow.training.history import Recorder, Totals
from snow.training.recipe import Recipe


class Average:
    """Follows the floating-point parameters and buffers of a module: `a <- d a + (1 - d) w` after each step.

    After n steps the decay d is n / (n + 10), until that reaches `decay`: the first step makes the average the weights
    themselves. Whole numbers are not averaged.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self._steps = 0
        self._average = [tensor.clone() for tensor in self._tensors()]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self._decay, self._steps / (self._steps + 10))
        torch._foreach_lerp_(self._average, self._tensors(), 1 - decay)
        self._steps += 1

    @contextmanager
    def in_place(self) -> Generator[None]:
        """The module holds the average while this is entered, and its own weights again afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        for mine, saved in zip(self._average, state["average"], strict=True):
            mine.copy_(saved)

    def _tensors(self) -> list[Tensor]:
        tensors = [*self._module.parameters(), *self._module.buffers()]
        return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]

    @torch.no_grad()
    def _swap(self) -> None:
        for average, own in zip(self._average, self._tensors(), strict=True):
            kept = own.clone()
            own.copy_(average)
            average.copy_(kept)


class Learner:
    """What the loop holds for one method. Learners know nothing of each other.

    Args:
        name: what the run calls it.
        method: already on `device`.
        column: which label of a picture is its own.
        recipe: optimizer, schedule, averaging and stopping.
        device: where the run computes.
        scaled: scale losses against fp16's narrow range.
    """

    def __init__(
        self,
        name: str,
        method: Method,
        column: int,
        recipe: Recipe,
        device: torch.device,
        scaled: bool = False,
    ) -> None:
        self.name = name
        self.method = method
        self.column = column
        self.totals = Totals()
        self.stopped = False
        self.lr = 0.0
        self.recorder = Recorder(method)
        self._recipe = recipe
        self._optimizer = _optimizer(method, recipe, device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        self._average = Average(method, recipe.ema) if recipe.ema else None
        self._best_accuracy = -1.0
        self._best_weights: dict[str, Tensor] = {}
        self._epochs_since_best = 0

    def prepare(self, rate: float, progress: float) -> None:
        """Before a step. `rate`: factor of the recipe's rate; `progress`: how much of the run is over, 0..1."""
        self.method.set_progress(progress)
        self.lr = self._recipe.lr * rate
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr * group["lr_scale"]

    def loss(self, features: Features, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Cross-entropy of a batch, and the method's own penalty.

        Args:
            features: of B pictures.
            labels: (B,), -1 where there is none.
            count: how many labels the whole batch has, over all processes.

        Returns:
            The part of the batch's mean loss that is to be differentiated, scaled if need be, and a tensor of this
            process's (sum of losses, number of right answers).
        """
        logits = self.method(features)
        smoothing = self._recipe.label_smoothing
        total = F.cross_entropy(logits.float(), labels, ignore_index=-1, reduction="sum", label_smoothing=smoothing)
        if (penalty := self.method.penalty()) is not None:
            total = total + penalty * (labels >= 0).sum()
        right = (logits.detach().argmax(1) == labels).sum()
        return self._scaler.scale(total / count), torch.stack([total.detach(), right.float()])

    def step(self) -> None:
        """Uses the gradients that are in the method's parameters, and clears them."""
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
        """The method holds the weights that would be kept if the run ended now."""
        with self._average.in_place() if self._average is not None else nullcontext():
            yield

    def judge(self, accuracy: float) -> None:
        """After an epoch, inside `averaged_weights`: remembers the best weights and decides on stopping."""
        if self._recipe.patience is None:
            return
        if accuracy > self._best_accuracy:
            self._best_accuracy = accuracy
            self._best_weights = {name: value.clone() for name, value in self.method.state_dict().items()}
            self._epochs_since_best = 0
        else:
            self._epochs_since_best += 1
        self.stopped = self._epochs_since_best >= self._recipe.patience

    def finish(self) -> None:
        """Leaves the method in eval mode with the weights that are kept: the best, the average, or the last."""
        if self._best_weights:
            self.method.load_state_dict(self._best_weights)
        elif self._average is not None:
            self.method.load_state_dict(self._averaged())
        self.method.eval()

    def is_finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.method.parameters())

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: all that the rest of the run depends on."""
        totals = self.totals
        return {
            "method": self.method.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average.state_dict() if self._average is not None else None,
            "totals": [totals.loss, totals.correct, totals.labels],
            "stopped": self.stopped,
            "lr": self.lr,
            "choices": self.recorder.state_dict(),
            "best": [self._best_accuracy, self._epochs_since_best, self._best_weights],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self._optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.totals = Totals(*state["totals"])
        self.stopped, self.lr = state["stopped"], state["lr"]
        self.recorder.load_state_dict(state["choices"])
        self._best_accuracy, self._epochs_since_best, self._best_weights = state["best"]

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
