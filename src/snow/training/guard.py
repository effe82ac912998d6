"""Training pictures that a learner does not learn, and the best state of a learner by what it answers for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from snow.delta import CATEGORICAL, Likelihood
from snow.methods import Method

SHARES = tuple(number / 20 for number in range(21))
"""Shares of a second network that are tried, see `Method.apart`."""

HELD_OUT = 0.2
"""Share of the pictures of each stratum that are held out at most."""

MIN_HELD_OUT = 40
"""With fewer held-out pictures, no difference of two states could be told from chance."""


def hold_out(labels: Tensor, seed: int) -> Tensor:
    """Choose pictures to judge training by, which it does not learn: (n,) -> (n,) of bool.

    They are `HELD_OUT` of each stratum, rounded down, but of n pictures with a label at most 4 √n, with as equal a
    part of each stratum as possible: where there are many, more would tell little more, and be missed in training.
    There are none where that makes fewer than `MIN_HELD_OUT`.

    Args:
        labels: strata, of classes their numbers; -1 where there is none.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.full((len(labels),), torch.inf)
    for value in labels[labels >= 0].unique():
        members = (labels == value).nonzero().flatten()
        count = int(HELD_OUT * len(members))
        chosen = members[torch.randperm(len(members), generator=generator)[:count]]
        order[chosen] = (torch.arange(count) + torch.rand(count, generator=generator)) / len(members)
    total = min(int(order.isfinite().sum()), round(4 * int((labels >= 0).sum()) ** 0.5))
    held = torch.zeros(len(labels), dtype=torch.bool)
    if total >= MIN_HELD_OUT:
        held[order.argsort()[:total]] = True
    return held


class Guard:
    """Remembers the state of a learner with the best answers for held-out pictures, its start included.

    A later state is better if the mean loss of the pictures, at the temperature that suits it, is below that of the
    start by more than twice its standard error, and below that of any other state, and if no fewer pictures are right:
    what is only more or less sure of the same answers is not worth its weights.

    Args:
        method: holds its start.
        likelihood: of the labels, which says what the loss is.
    """

    def __init__(self, method: Method, likelihood: Likelihood = CATEGORICAL) -> None:
        self._method, self._likelihood = method, likelihood
        self._states: list[dict[str, Any]] = []
        """What was measured after each epoch, that of the start first."""
        self._start_losses = torch.zeros(0)
        self._logits, self._labels = torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)
        """Of the held-out pictures, by the best state."""
        self._weights = _copy(method)
        self._best = 0

    @property
    def has_start(self) -> bool:
        """Whether the start has been measured."""
        return bool(self._states)

    def update(self, parts: Tensor, labels: Tensor) -> None:
        """Measure the method's current weights, the first time those of the start.

        Args:
            parts: (h, P, C), logits for the held-out pictures; where there are two, their best share is set.
            labels: (h,), or targets in the units of outputs, (h, C).
        """
        share = self._best_share(parts, labels) if self._states else 0.0
        self._method.set_share(share)
        logits = self._method.mix(parts, share)
        losses, figure = self._likelihood.losses(logits, labels)
        state = {"loss": round(float(losses.mean()), 4), self._likelihood.figure: round(figure, 4)}
        state["scale"] = self._likelihood.factor(logits, labels)
        if parts.shape[1] > 1:
            state["share"] = share
        if not self._states:
            self._start_losses, self._logits, self._labels = losses, logits.clone(), labels
        elif bool(losses.isfinite().all()) and self._is_better(state, self._start_losses - losses):
            self._best, self._weights = len(self._states), _copy(self._method)
            self._logits = logits.clone()
        self._states.append(state)

    def finish(self) -> None:
        """Leave the method with the best weights, fitted to the held-out pictures as far as its start was."""
        self._method.load_state_dict(self._weights)
        self._method.conclude(self._best > 0, self._scale)

    def _is_better(self, state: Mapping[str, Any], gain: Tensor) -> bool:
        """Judge a state by what each held-out picture gains over the start, (h,)."""
        start, best, figure = self._states[0], self._states[self._best], self._likelihood.figure
        error = float(gain.std()) / len(gain) ** 0.5
        return float(gain.mean()) > 2 * error and state[figure] >= start[figure] and state["loss"] < best["loss"]

    def _best_share(self, parts: Tensor, labels: Tensor) -> float:
        """Find the smallest share whose mean loss is within a standard error of the smallest (Breiman et al., 1984).

        Where few pictures judge, the second network then counts less than on these pictures would be best.
        """
        if parts.shape[1] == 1 or not parts.isfinite().all():
            return 0.0
        losses = torch.stack([self._likelihood.losses(self._method.mix(parts, share), labels)[0] for share in SHARES])
        behind = losses - losses[losses.mean(1).argmin()]
        within = behind.mean(1) <= behind.std(1) / behind.shape[1] ** 0.5
        return SHARES[int(within.nonzero()[0])]

    @property
    def _scale(self) -> float:
        """Factor of the logits of the state that is kept; a start has its own."""
        return self._states[self._best]["scale"] if self._best else 1.0

    @property
    def answers(self) -> tuple[Tensor, Tensor] | None:
        """Return what the state that is kept answers for held-out pictures: logits (h, C), and their labels.

        They are as sure as those of the method that is left, which is fitted to these pictures as well.
        """
        return (self._logits.float() * self._scale, self._labels) if len(self._logits) else None

    @property
    def evidence(self) -> dict[str, Any]:
        """Return what was measured and kept, as JSON values."""
        if not self._states:
            return {"held_out": 0, "kept": "start"}
        kept = f"epoch {self._best}" if self._best else "start"
        names = ("loss", self._likelihood.figure, "share")
        shown = [{name: state[name] for name in names if name in state} for state in self._states]
        return {"held_out": len(self._start_losses), "kept": kept, "start": shown[0], "epochs": shown[1:]}

    def state_dict(self) -> dict[str, Any]:
        return {
            "states": list(self._states),
            "start_losses": self._start_losses,
            "weights": self._weights,
            "best": self._best,
            "answers": [self._logits, self._labels],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._states, self._start_losses = list(state["states"]), state["start_losses"]
        self._weights, self._best = state["weights"], state["best"]
        self._logits, self._labels = state.get("answers", [self._logits, self._labels])


def _copy(method: Method) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}
