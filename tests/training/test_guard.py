"""The guard: which pictures judge a learner, and which of its states is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snow.delta import NORMAL
from snow.methods import Method
from snow.training.guard import MIN_HELD_OUT, Guard, hold_out

CLASSES = 4


class Toy(nn.Module):
    """Stands for a method: one number, and what its conclusion was."""

    def __init__(self) -> None:
        super().__init__()
        self.state = nn.Parameter(torch.zeros(1))
        self.concluded: tuple[bool, float] | None = None
        self.share = 0.0

    mix = Method.mix

    def set_share(self, share: float) -> None:
        self.share = share

    def conclude(self, trained: bool, scale: float) -> None:
        self.concluded = trained, scale


def answers(labels: Tensor, quality: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(labels), CLASSES, generator=generator)
    return noise + quality * nn.functional.one_hot(labels, CLASSES)


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(200) % CLASSES


def run(guard: Guard, toy: Any, labels: Tensor, qualities: list[float]) -> None:
    for epoch, quality in enumerate(qualities):
        toy.state.data.fill_(epoch)
        guard.update(answers(labels, quality)[:, None], labels)


@pytest.mark.parametrize(
    ("qualities", "kept"),
    [([2.0, 1.0, 0.5], 0), ([1.0, 2.0, 3.0], 2), ([1.0, 3.0, 2.0], 1), ([1.0, 1.0, 1.0], 0), ([2.0, float("nan")], 0)],
)
def test_the_best_state_is_kept(labels: Tensor, qualities: list[float], kept: int) -> None:
    toy: Any = Toy()
    guard = Guard(toy)
    run(guard, toy, labels, qualities)
    guard.finish()
    assert toy.state.item() == kept
    assert toy.concluded is not None
    assert toy.concluded[0] is (kept > 0)
    assert guard.evidence["kept"] == ("start" if kept == 0 else f"epoch {kept}")
    assert guard.evidence["held_out"] == 200
    assert len(guard.evidence["epochs"]) == len(qualities) - 1


def test_the_scale_is_that_of_the_kept_state(labels: Tensor) -> None:
    toy: Any = Toy()
    guard = Guard(toy)
    guard.update(answers(labels, 1.0)[:, None], labels)
    guard.update(10 * answers(labels, 3.0)[:, None], labels)
    guard.finish()
    trained, scale = toy.concluded
    assert trained
    assert 0.2 < scale < 0.4
    assert guard.answers is not None
    torch.testing.assert_close(guard.answers, (10 * scale * answers(labels, 3.0), labels))


@pytest.mark.parametrize(("second", "least", "most"), [(2.0, 0.4, 0.6), (5.0, 0.5, 0.6), (0.0, 0.0, 0.1)])
def test_of_two_networks_the_better_one_has_the_larger_share(
    labels: Tensor, second: float, least: float, most: float
) -> None:
    toy: Any = Toy()
    guard = Guard(toy)
    start, other = answers(labels, 2.0), answers(labels, second, seed=1)
    guard.update(torch.stack([start, other], 1), labels)
    assert toy.share == 0, "the first state is the start alone"
    toy.state.data.fill_(1)
    guard.update(torch.stack([start, other], 1), labels)
    assert least <= toy.share <= most
    assert guard.evidence["epochs"][0]["share"] == toy.share
    assert guard.evidence["epochs"][0]["loss"] <= guard.evidence["start"]["loss"]
    guard.finish()
    assert toy.concluded[0] == (second > 0)


def test_a_state_with_fewer_right_answers_is_not_kept(labels: Tensor) -> None:
    """Its mistakes are cheap ones: the log-loss is better by far."""
    unsure, sure = 0.2 * nn.functional.one_hot(labels, CLASSES), 9.0 * nn.functional.one_hot(labels, CLASSES)
    sure[:4] = nn.functional.one_hot((labels[:4] + 1) % CLASSES, CLASSES)
    unsure[:3] = nn.functional.one_hot((labels[:3] + 1) % CLASSES, CLASSES)
    toy: Any = Toy()
    guard = Guard(toy)
    guard.update(unsure[:, None], labels)
    guard.update(sure[:, None], labels)
    assert guard.evidence["epochs"][0]["loss"] < guard.evidence["start"]["loss"] / 2
    assert guard.evidence["kept"] == "start"


def test_a_gain_within_its_error_is_seldom_kept(labels: Tensor) -> None:
    kept = 0
    for seed in range(1, 21):
        guard = Guard(Toy())  # ty: ignore[invalid-argument-type]
        guard.update(answers(labels, 2.0, 100 + seed)[:, None], labels)
        guard.update(answers(labels, 2.0, seed)[:, None], labels)
        kept += guard.evidence["kept"] != "start"
    assert kept <= 8


@pytest.mark.parametrize(("errors", "kept"), [([1.0, 0.5, 0.7], 1), ([0.5, 0.6, 0.49], 0)])
def test_of_a_number_squared_errors_are_compared(errors: list[float], kept: int) -> None:
    toy: Any = Toy()
    guard = Guard(toy, NORMAL)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randn(200, 1, generator=generator)
    for epoch, error in enumerate(errors):
        toy.state.data.fill_(epoch)
        guard.update((labels + error * torch.randn(200, 1, generator=generator))[:, None], labels)
    guard.finish()
    assert toy.state.item() == kept
    assert toy.concluded == (kept > 0, 1.0)
    assert guard.evidence["start"]["loss"] == pytest.approx(errors[0] ** 2, rel=0.3)
    assert guard.evidence["start"]["r2"] == pytest.approx(1 - errors[0] ** 2, abs=0.25)


def test_without_pictures_the_start_is_kept() -> None:
    toy: Any = Toy()
    guard = Guard(toy)
    toy.state.data.fill_(1)
    guard.finish()
    assert toy.state.item() == 0
    assert guard.evidence == {"held_out": 0, "kept": "start"}
    assert guard.answers is None


def test_a_saved_guard_goes_on(labels: Tensor) -> None:
    toy: Any = Toy()
    guard = Guard(toy)
    run(guard, toy, labels, [1.0, 3.0])
    again = Guard(toy)
    again.load_state_dict(guard.state_dict())
    assert again.has_start
    torch.testing.assert_close(again.answers, guard.answers)
    toy.state.data.fill_(7)
    again.update(answers(labels, 2.0)[:, None], labels)
    again.finish()
    assert toy.state.item() == 1


def test_a_fifth_of_each_class_judges() -> None:
    labels = torch.cat([torch.zeros(100), torch.ones(104), torch.full((4,), 2), torch.full((9,), -1)]).long()
    held = hold_out(labels, 0)
    assert [int(held[labels == value].sum()) for value in (0, 1, 2, -1)] == [20, 20, 0, 0]
    assert torch.equal(held, hold_out(labels, 0))
    assert not torch.equal(held, hold_out(labels, 1))


def test_too_few_pictures_judge_nothing() -> None:
    labels = torch.arange(5 * MIN_HELD_OUT - 5) % 5
    assert not hold_out(labels, 0).any()


def test_of_many_pictures_a_smaller_part_judges() -> None:
    counts = {0: 6400, 1: 1600, 2: 2000, -1: 999}
    labels = torch.cat([torch.full((count,), value) for value, count in counts.items()])
    held = hold_out(labels, 0)
    assert held.sum() == 400
    for value, expected in {0: 256, 1: 64, 2: 80, -1: 0}.items():
        assert abs(int(held[labels == value].sum()) - expected) <= 1


def test_the_share_is_the_smallest_that_is_hardly_worse() -> None:
    toy: Any = Toy()
    guard = Guard(toy)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3000) % 4
    first, second = (nn.functional.one_hot(labels, 4) + torch.randn(3000, 4, generator=generator) for _ in range(2))
    parts = torch.stack([first, second], 1)
    guard.update(parts, labels)
    assert toy.share == 0.0
    guard.update(parts, labels)
    assert 0.4 <= toy.share <= 0.5, "both are as good: a half is best"
    many, guard = toy.share, Guard(toy)
    for _ in range(2):
        guard.update(parts[:60], labels[:60])
    assert toy.share < many
