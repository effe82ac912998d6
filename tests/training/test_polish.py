"""Fitting the classifier of an extended task: what it may change, and when it is kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from snow.inference.familiarity import Familiarity
from snow.training import polish as module
from snow.training.polish import polish

WIDTH = 12


def features(count: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around a mean for each class."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, WIDTH, generator=torch.Generator().manual_seed(9))
    labels = torch.arange(count) % classes
    return means[labels] + 0.9 * torch.randn(count, WIDTH, generator=generator), labels


def extended(statistics: Familiarity, learned: int, shift: float) -> Any:
    """Stands in for an extended method whose classifier favours the last class by `shift`."""
    weight, bias = module._closed_form(statistics)
    bias = bias.clone()
    bias[-1] += shift
    gate = module.gate_in(statistics, weight, bias)
    return SimpleNamespace(kept=list(range(learned)), after_weight=gate.weight, after_bias=gate.bias)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the pictures of a test be final features."""

    def place(statistics: Familiarity, final: torch.Tensor, labels: torch.Tensor, offset: float) -> None:
        unit = torch.nn.functional.normalize(final, dim=1)
        z = ((unit - statistics.centre) * statistics.gain) @ statistics.basis.float().T
        rows = torch.zeros(len(labels), len(statistics.counts))
        rows[:, -1] = offset
        points = module._Points(z @ statistics.root.T, rows, labels)
        monkeypatch.setattr(module, "_seen", lambda *_: points)

    return place


def test_a_classifier_that_errs_on_the_pictures_is_fitted(seen: Any) -> None:
    final, labels = features(200, 4, 0)
    statistics = Familiarity.fit(final, labels)
    assert statistics is not None
    new, own = features(200, 4, 1)
    few = own >= 2
    method = extended(statistics, 3, 0.0)
    seen(statistics, new[few], own[few], -7.0)  # the method itself holds the last class for impossible
    result = polish(None, method, statistics, None)  # ty: ignore
    assert result.kept
    assert result.images == 100
    assert result.after > result.before
    unit = torch.nn.functional.normalize(new, dim=1)
    answers = (unit @ method.after_weight.T + method.after_bias).argmax(1)
    absent = own < 2
    assert (answers[absent] == own[absent]).float().mean() > 0.7, "classes without a picture are held in place"


def test_the_closed_form_stays_where_nothing_is_better(seen: Any) -> None:
    final, labels = features(200, 4, 0)
    statistics = Familiarity.fit(final, labels)
    assert statistics is not None
    method = extended(statistics, 3, 0.0)
    before = method.after_weight.clone()
    seen(statistics, final[:4], labels[:4], 0.0)
    assert not polish(None, method, statistics, None).kept, "four pictures say too little"  # ty: ignore
    assert torch.equal(method.after_weight, before)
