"""Confidence and familiarity together tell unknown pictures that one of them alone does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snow.errors import DamagedError
from snow.inference.confidence import MIN_HELD_OUT, Confidence
from snow.kinds.scores import auroc

CLASSES = 5


def answers(count: int, seed: int, strength: float = 4.0) -> tuple[Tensor, Tensor]:
    """Logits that are larger at the label."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % CLASSES
    logits = torch.randn(count, CLASSES, generator=generator)
    return logits.index_put((torch.arange(count), label), logits[torch.arange(count), label] + strength), label


def even(count: int, seed: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def alike() -> Confidence:
    """Of a task whose classes look alike: without its class, a picture is as familiar as before."""
    confidence = Confidence.fit(even(400, 1), even(400, 2), *answers(400, 3))
    assert confidence is not None
    return confidence


def test_own_pictures_are_spread_evenly(alike: Confidence) -> None:
    known = alike.known(even(2000, 4), answers(2000, 5)[0])
    for share in (0.05, 0.2, 0.5, 0.9):
        assert float((known < share).float().mean()) == pytest.approx(share, abs=0.05)
    assert 0 < known.min() <= known.max() <= 1


def test_unsure_answers_are_unknown_where_classes_look_alike(alike: Confidence) -> None:
    assert float(alike.weight) == 0.5
    familiar = even(600, 6)
    known = alike.known(familiar, torch.cat([answers(300, 7)[0], answers(300, 8, strength=0.0)[0]]))
    is_own = torch.arange(600) < 300
    assert auroc(known.double(), is_own) > 0.9
    assert auroc(familiar.double(), is_own) < 0.6


def test_what_is_not_familiar_is_unknown_however_sure_the_task_is(alike: Confidence) -> None:
    far = alike.known(torch.full((100,), 1e-12), answers(100, 9, strength=9.0)[0])
    assert float((far < 0.05).float().mean()) > 0.9


def test_confidence_is_left_out_where_familiarity_tells_more() -> None:
    """Answers are as sure without the right class, which is far from all others."""
    logits, label = answers(400, 10, strength=0.0)
    assert Confidence.fit(even(400, 11), torch.full((400,), 1e-6), logits, label) is None


@pytest.mark.parametrize("kept", [slice(MIN_HELD_OUT - 1), slice(None)])
def test_it_takes_pictures_and_classes(kept: slice) -> None:
    logits, label = answers(400, 12)
    fewer = kept.stop is None
    logits, label = (logits[:, :2], label % 2) if fewer else (logits[kept], label[kept])
    assert Confidence.fit(even(len(label), 1), even(len(label), 2), logits, label) is None


def test_tensors_are_checked(alike: Confidence) -> None:
    tensors = alike.tensors()
    logits, familiar = answers(50, 13)[0], even(50, 14)
    assert torch.equal(Confidence.of_tensors(tensors).known(familiar, logits), alike.known(familiar, logits))
    for damaged in ({**tensors, "joint": tensors["joint"][1:]}, {"joint": tensors["joint"]}, {**tensors, "x": logits}):
        with pytest.raises(DamagedError, match="confidence has wrong tensors"):
            Confidence.of_tensors(damaged)
