"""Which pictures to label next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import torch

from snow.errors import SnowError
from snow.hub import Artifact
from snow.kinds import ClassKind, LabelKind, NumberKind, TagKind
from snow.training.pick import doubts, pick


def task(kind: LabelKind) -> Artifact:
    return cast(Artifact, SimpleNamespace(name="t", labels=kind))


def test_doubt_by_hand() -> None:
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2]]).log()
    assert doubts(task(ClassKind(("a", "b", "c"))), logits).tolist() == pytest.approx([0.5, 1.0])
    tags = torch.logit(torch.tensor([[0.9, 0.5], [0.9, 0.1]]))
    assert doubts(task(TagKind(("a", "b"))), tags).tolist() == pytest.approx([1.0, 0.2], abs=1e-5)
    with pytest.raises(SnowError, match="gives numbers"):
        doubts(task(NumberKind(0.0, 1.0, 0.0, 1.0)), torch.zeros(1, 1))


def test_doubtful_pictures_come_first_and_copies_last() -> None:
    final = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    picked = pick(torch.tensor([1.0, 0.9, 0.5, 0.1]), final, 3)
    assert [entry.index for entry in picked] == [0, 2, 3]
    assert [entry.doubt for entry in picked] == pytest.approx([1.0, 0.5, 0.1])


def test_no_picture_is_picked_twice() -> None:
    picked = pick(torch.zeros(5), torch.randn(5, 4), 9)
    assert sorted(entry.index for entry in picked) == [0, 1, 2, 3, 4]
