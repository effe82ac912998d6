"""What differs from kind to kind of label: what is regressed, and what left-out pictures say of the answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from snow.delta import BERNOULLI, NORMAL, Start, find_start
from snow.delta import start as module
from snow.delta.pass_rows import ANSWERS_BLOCK, FINAL_BLOCK, MOMENTS_BLOCK, PassRows
from snow.delta.scaling import sigmoid_fit
from snow.subscribe.statistics import channel_score

SIZES = {FINAL_BLOCK: 6, ANSWERS_BLOCK: 5, MOMENTS_BLOCK: 16}
OFFSETS = {FINAL_BLOCK: 0, ANSWERS_BLOCK: 6, MOMENTS_BLOCK: 11}


def make_numbers(count: int, signal: str = MOMENTS_BLOCK, views: int = 3, seed: int = 0) -> PassRows:
    """Make rows with standardised numbers, which are the sum of two inputs of one block and noise."""
    generator = torch.Generator().manual_seed(seed)
    pictures = {name: torch.randn(count, size, generator=generator) for name, size in SIZES.items()}
    number = pictures[signal][:, 0] - pictures[signal][:, 1] + 0.3 * torch.randn(count, generator=generator)
    blocks = {}
    for name, picture in pictures.items():
        noise = 0.3 * torch.randn(views, *picture.shape, generator=generator)
        noise[0] = 0
        blocks[name] = (picture + noise) * 4 + 7
    parts = {FINAL_BLOCK: [6], ANSWERS_BLOCK: [5], MOMENTS_BLOCK: [4, 4, 4, 4]}
    return PassRows(blocks, parts, (number / 2**0.5)[:, None], 1, NORMAL)


def outputs(start: Start, rows: PassRows, refit: bool = False) -> Tensor:
    """Answer for the plain view."""
    x = torch.cat([values[0] for values in rows.blocks.values()], 1)[:, start.index]
    weight = start.weight + start.refit if refit else start.weight
    bias = start.bias + start.refit_bias if refit else start.bias
    return ((x - start.centre) * start.gain) @ weight.T + bias


def explained(start: Start, rows: PassRows) -> float:
    return NORMAL.measure(outputs(start, rows), rows.label)[1]


@pytest.mark.parametrize("signal", SIZES)
def test_a_number_is_read_where_it_is(signal: str) -> None:
    start = find_start(make_numbers(90, signal), 10_000)
    assert explained(start, make_numbers(300, signal, seed=1)) > 0.7
    lengths = (start.weight * start.gain).norm(dim=0)
    strongest = set(start.index[lengths.topk(2).indices].tolist())
    assert strongest == {OFFSETS[signal], OFFSETS[signal] + 1}
    assert start.weight.shape == (1, len(start.index))


def test_left_out_numbers_say_what_further_ones_will() -> None:
    start = find_start(make_numbers(120), 10_000)
    chosen = start.evidence["chosen"]
    assert start.evidence["growth"] == 1.0
    assert "accuracy" not in chosen
    assert chosen["r2"] == pytest.approx(explained(start, make_numbers(1000, seed=1)), abs=0.05)
    error = (1 - chosen["r2"]) * float(make_numbers(120).label.var(correction=0))
    assert chosen["loss"] == pytest.approx(0.5 * math.log(error), abs=0.01)


def test_with_many_rows_one_fold_of_numbers_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FOLDED_ROWS", 10)
    rows = make_numbers(120)
    learned = torch.arange(120) % 5 > 0
    start = find_start(rows, 14, learned)  # thirteen inputs
    assert start.evidence["left_out"] == 24
    assert start.evidence["chosen"]["inputs"] == {MOMENTS_BLOCK: 13}
    assert explained(start, make_numbers(300, seed=1)) > 0.7


def test_numbers_that_are_not_learned_come_with_the_refit() -> None:
    rows = make_numbers(60)
    part, everything = find_start(rows, 10_000, torch.arange(60) % 5 > 0), find_start(rows, 10_000)
    assert not torch.allclose(part.weight, everything.weight, rtol=1e-3)
    torch.testing.assert_close(outputs(part, rows, refit=True), outputs(everything, rows), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_few_numbers_are_not_answered_worse_than_by_their_mean(count: int) -> None:
    new, scores = make_numbers(300, seed=9), []
    for seed in range(5):
        rows = make_numbers(count, FINAL_BLOCK, seed=seed)
        start = find_start(rows, 10_000)
        assert start.weight.isfinite().all()
        scores.append(explained(start, new))
    assert sum(scores) / len(scores) > -1.0


def test_folds_have_their_part_of_the_range_of_numbers() -> None:
    numbers = torch.randn(53, 1)
    strata = NORMAL.strata(numbers)
    assert strata.bincount().min() >= 5
    assert len(strata.bincount()) == 10
    lowest = numbers[strata == 0].max()
    assert (numbers[strata > 0] >= lowest).all()
    assert NORMAL.strata(numbers[:3]).tolist() == [0, 0, 0]


def test_the_factor_of_a_number_is_one() -> None:
    labels = torch.randn(20, 1)
    assert NORMAL.factor(labels * 3, labels) == 1.0
    losses, figure = NORMAL.losses(labels + 2.0, labels)
    torch.testing.assert_close(losses, torch.full((20,), 4.0))
    assert figure < 0
    assert NORMAL.is_known(torch.tensor([[1.0], [torch.nan]])).tolist() == [True, False]
    assert not NORMAL.can_fit(torch.ones(4, 1))


def make_tags(count: int, views: int = 3, seed: int = 0, unknown: float = 0.0) -> PassRows:
    """Make rows with three tags: two on half of the pictures, from moments and final features, and one on a tenth."""
    generator = torch.Generator().manual_seed(seed)
    rows = make_numbers(count, views=views, seed=seed)
    plain = {name: (values[0] - 7) / 4 for name, values in rows.blocks.items()}
    signal = torch.stack([plain[MOMENTS_BLOCK][:, 3], plain[FINAL_BLOCK][:, 2], plain[MOMENTS_BLOCK][:, 5] - 1.28], 1)
    labels = (signal + 0.2 * torch.randn(count, 3, generator=generator) > 0).float()
    labels[torch.rand(count, 3, generator=generator) < unknown] = torch.nan
    known = labels.isfinite().any(1)
    blocks = {name: values[:, known] for name, values in rows.blocks.items()}
    return PassRows(blocks, rows.parts, labels[known], 3, BERNOULLI)


@pytest.mark.parametrize("unknown", [0.0, 0.4])
def test_tags_are_read_where_they_are(unknown: float) -> None:
    rows, new = make_tags(240, unknown=unknown), make_tags(600, seed=1)
    start = find_start(rows, 10_000)
    answers = outputs(start, new)
    assert ((answers > 0) == (new.label > 0.5)).float().mean() > 0.85
    frequency, expected = new.label.mean(0), answers.sigmoid().mean(0)
    torch.testing.assert_close(expected, frequency, atol=0.08, rtol=0)
    assert start.evidence["chosen"]["accuracy"] > 0.85
    loss, _ = BERNOULLI.measure(answers, new.label)
    assert start.evidence["chosen"]["loss"] == pytest.approx(loss, abs=0.08)


def test_tags_of_pictures_that_are_not_learned_come_with_the_refit(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_tags(90)
    part, everything = find_start(rows, 10_000, torch.arange(90) % 5 > 0), find_start(rows, 10_000)
    torch.testing.assert_close(outputs(part, rows, refit=True), outputs(everything, rows), rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(module, "MAX_FOLDED_ROWS", 10)
    monkeypatch.setattr("snow.delta.pass_rows.RANKS", (2, 1))
    layouts = find_start(rows, 3 + 3 * 9, torch.arange(90) % 5 > 0).evidence["layouts"]
    assert {layout["rank"] for layout in layouts} == {None}


@pytest.mark.parametrize("labels", [[[1, 0]] * 4, [[1, 0], [1, 1]], [[1, 0], [1, 1], [1, float("nan")]]])
def test_a_tag_that_is_always_on_or_never_has_its_frequency(labels: list[list[float]]) -> None:
    targets = torch.tensor(labels, dtype=torch.float32)
    rows = make_numbers(len(labels))._replace(label=targets, num_classes=2, likelihood=BERNOULLI)
    start = find_start(rows, 10_000)
    answers = outputs(start, rows)
    assert answers.isfinite().all()
    assert (answers[:, 0] > 0).all()
    assert BERNOULLI.can_fit(targets) == (len(targets[:, 1].unique()) > 1)


def test_grades_are_as_many_steps_as_are_on() -> None:
    rows, new = make_numbers(150), make_numbers(400, seed=1)
    steps = torch.tensor([-0.8, 0.0, 0.8])
    graded = [
        part._replace(label=(part.label > steps).float(), num_classes=3, likelihood=BERNOULLI) for part in (rows, new)
    ]
    start = find_start(graded[0], 10_000)
    above = outputs(start, graded[1]).sigmoid()
    above = above.cummin(1).values
    distance = ((above > 0.5).sum(1) - graded[1].label.sum(1)).abs()
    assert distance.mean() < 0.35
    assert (BERNOULLI.strata(graded[0].label) - (graded[0].label.sum(1) - 1) % 4 == 0).all(), "a stratum is a grade"


def test_factor_and_offset_of_a_tag_have_the_smallest_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 2, generator=generator) * torch.tensor([1.0, 3.0]) - torch.tensor([2.0, 0.0])
    labels = (torch.rand(2000, 2, generator=generator) < logits.sigmoid()).float()
    labels[:700, 1] = torch.nan
    answers = logits * torch.tensor([0.1, 5.0]) + 3
    factor, offset = sigmoid_fit(answers, labels)
    torch.testing.assert_close(answers * factor + offset, logits, atol=1.0, rtol=0)
    logits = (answers * factor + offset).double().requires_grad_()
    known = labels.isfinite()
    torch.nn.functional.binary_cross_entropy_with_logits(logits[known], labels[known].double()).backward()
    assert logits.grad is not None
    assert (logits.grad.sum(0).abs() < 1e-3).all(), "the mean probability is the frequency"


def test_answers_that_contradict_the_labels_hardly_count() -> None:
    labels = (torch.arange(40)[:, None] % 4 == 0).float()
    factor, offset = sigmoid_fit(-labels, labels)
    assert float(factor) > 0
    torch.testing.assert_close(torch.sigmoid(-labels * factor + offset).mean(), torch.tensor(0.25), atol=0.02, rtol=0)
    factor, offset = sigmoid_fit(torch.full((40, 1), 3.0), labels)
    assert float(factor) == 0
    assert float(offset.sigmoid()) == pytest.approx(0.25, abs=0.02)


def test_inputs_are_scored_by_all_tags() -> None:
    values, labels = torch.randn(200, 7), (torch.randn(200, 3) > 0).float()
    values[:, 4] += labels[:, 1]
    torch.testing.assert_close(BERNOULLI.scores(values, labels, 3), channel_score(values, labels))
    labels[:100, 1] = torch.nan
    scores = BERNOULLI.scores(values, labels, 3)
    assert scores.argmax() == 4
    torch.testing.assert_close(scores[4], channel_score(values, labels)[4], rtol=0.3, atol=0)


def test_one_factor_of_all_tags_makes_them_as_sure_as_they_are_right() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(800, 3, generator=generator) * 2
    labels = (torch.rand(800, 3, generator=generator) < logits.sigmoid()).float()
    labels[::3, 0] = torch.nan
    assert BERNOULLI.factor(logits * 4, labels) == pytest.approx(0.25, rel=0.2)
    losses, right = BERNOULLI.losses(logits * 4, labels)
    scaled, same = BERNOULLI.losses(logits, labels)
    torch.testing.assert_close(losses, scaled, rtol=1e-2, atol=1e-3)
    assert right == same > 0.7
    assert BERNOULLI.observations(labels) == 2400 - 267
    assert BERNOULLI.strata(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, torch.nan]])).tolist() == [0, 1, 2]
