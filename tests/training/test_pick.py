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
    assert doubts(task(ClassKind(("a", "b", "c"))), logits).tolist() == pytest.approx([0.3, 0.6])
    tags = torch.logit(torch.tensor([[0.9, 0.5], [0.9, 0.1]]))
    assert doubts(task(TagKind(("a", "b"))), tags).tolist() == pytest.approx([1.0, 0.2], abs=1e-5)
    with pytest.raises(SnowError, match="gives numbers"):
        doubts(task(NumberKind(0.0, 1.0, 0.0, 1.0)), torch.zeros(1, 1))


def groups(sizes: dict[int, int], width: int = 200) -> torch.Tensor:
    """Final features of some kinds of pictures, so many of each: kind -> number -> (n, D)."""
    centres = torch.randn(5, width, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(sum(sizes.values()), width, generator=torch.Generator().manual_seed(2))
    return torch.cat([centres[kind].expand(count, -1) for kind, count in sizes.items()]) + 0.2 * noise


def test_one_of_each_kind_without_doubts() -> None:
    final = groups({0: 40, 1: 40, 2: 10, 3: 10})
    picked = [entry.index for entry in pick(torch.full((100,), 0.5), final, 4)]
    assert [sum(low <= index < high for index in picked) for low, high in ((0, 40), (40, 80), (80, 90), (90, 100))] == [
        1,
        1,
        1,
        1,
    ]
    assert picked == [entry.index for entry in pick(torch.full((100,), 0.5), final, 4)]


def test_what_the_task_is_sure_of_is_not_picked() -> None:
    final = groups({0: 60, 1: 20, 2: 20})
    doubt = torch.zeros(100)
    doubt[80:] = 0.4
    doubt[60:80] = 0.8
    picked = pick(doubt, final, 6)
    assert sum(entry.index < 60 for entry in picked) <= 1
    assert picked[0].index in range(60, 80), "the group with most expected errors comes first"
    assert picked[0].doubt == pytest.approx(0.8)


def test_the_middle_of_a_group_is_picked() -> None:
    final = groups({0: 50, 1: 50})
    for entry in pick(torch.ones(100), final, 2):
        kind = slice(0, 50) if entry.index < 50 else slice(50, 100)
        points = torch.nn.functional.normalize(final[kind], dim=1)
        spread = (points - points.mean(0)).norm(dim=1)
        assert spread[entry.index % 50] <= spread.median()


def test_no_picture_is_picked_twice() -> None:
    picked = pick(torch.zeros(5), torch.randn(5, 4), 9)
    assert sorted(entry.index for entry in picked) == [0, 1, 2, 3, 4]
    same = pick(torch.ones(8), torch.ones(8, 4), 5)
    assert len({entry.index for entry in same}) == 5
