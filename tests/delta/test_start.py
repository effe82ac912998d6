"""The start by evidence: it reads what separates the classes, within its budget, and knows how sure it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snow.delta import Start, find_start
from snow.delta import start as module
from snow.delta.evidence import Candidate, weigh
from snow.delta.pass_rows import ANSWERS_BLOCK, FINAL_BLOCK, MOMENTS_BLOCK, PassRows, layouts_within
from snow.delta.scaling import best_scale, log_loss, robust_scale

SIZES = {FINAL_BLOCK: 6, ANSWERS_BLOCK: 5, MOMENTS_BLOCK: 16}


def make_rows(
    per_class: int, classes: int = 3, views: int = 3, signal: str = MOMENTS_BLOCK, seed: int = 0, strength: float = 3.0
) -> PassRows:
    """Make rows whose classes differ in the first inputs of one block."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(per_class * classes) % classes
    blocks = {}
    for name, size in SIZES.items():
        picture = torch.randn(len(label), size, generator=generator)
        if name == signal:
            picture[:, :classes] += strength * torch.nn.functional.one_hot(label, classes)
        noise = 0.3 * torch.randn(views, len(label), size, generator=generator)
        noise[0] = 0
        blocks[name] = (picture + noise) * 4 + 7
    parts = {FINAL_BLOCK: [6], ANSWERS_BLOCK: [5], MOMENTS_BLOCK: [4, 4, 4, 4]}
    return PassRows(blocks, parts, label, classes)


def logits(start: Start, rows: PassRows, refit: bool = False) -> Tensor:
    """Answer for the plain view."""
    x = torch.cat([values[0] for values in rows.blocks.values()], 1)[:, start.index]
    weight = start.weight + start.refit if refit else start.weight
    z = ((x - start.centre) * start.gain) @ weight.T
    bias = start.bias + start.refit_bias if refit else start.bias
    return (z if start.expand is None else z @ start.expand.T) + bias


def accuracy(start: Start, rows: PassRows) -> float:
    return float((logits(start, rows).argmax(1) == rows.label).float().mean())


@pytest.mark.parametrize("per_class", [4, 30])
@pytest.mark.parametrize("signal", SIZES)
def test_it_reads_the_block_that_separates_the_classes(signal: str, per_class: int) -> None:
    start = find_start(make_rows(per_class, signal=signal), 10_000)
    new = make_rows(100, signal=signal, seed=1)
    assert accuracy(start, new) > (0.8 if per_class == 30 else 0.6)
    if per_class < 30:
        return
    offset = {FINAL_BLOCK: 0, ANSWERS_BLOCK: 6, MOMENTS_BLOCK: 11}[signal]
    lengths = (start.weight * start.gain).norm(dim=0)
    strongest = set(start.index[lengths.topk(3).indices].tolist())
    assert strongest == {offset, offset + 1, offset + 2}


def test_answers_are_as_sure_as_they_are_right() -> None:
    start = find_start(make_rows(60, strength=1.0), 10_000)
    new = make_rows(1000, strength=1.0, seed=1)
    confidence = float(logits(start, new).softmax(1).amax(1).mean())
    assert abs(confidence - accuracy(start, new)) < 0.06


def test_with_many_rows_one_fold_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(30, strength=1.5)
    few = find_start(rows, 10_000)
    assert few.evidence["left_out"] == 90
    monkeypatch.setattr(module, "MAX_FOLDED_ROWS", 10)
    many = find_start(rows, 10_000)
    assert many.evidence["left_out"] == 18
    new = make_rows(300, strength=1.5, seed=1)
    assert abs(accuracy(few, new) - accuracy(many, new)) < 0.05


def test_pictures_that_are_not_learned_come_with_the_refit() -> None:
    rows = make_rows(20)
    learned = torch.arange(60) % 5 > 0
    part, everything = find_start(rows, 10_000, learned), find_start(rows, 10_000)
    assert part.evidence == everything.evidence
    assert not torch.allclose(part.weight, everything.weight, rtol=1e-3)
    torch.testing.assert_close(logits(part, rows, refit=True), logits(everything, rows), rtol=1e-3, atol=1e-3)
    assert everything.refit.count_nonzero() == 0
    changed = rows._replace(blocks={name: values.clone() for name, values in rows.blocks.items()})
    for values in changed.blocks.values():
        values[1:, ~learned] += 1.0
    assert torch.equal(find_start(changed, 10_000, learned).index, part.index)


@pytest.mark.parametrize("budget", [24, 100, 200])
def test_it_stays_within_its_budget(budget: int) -> None:
    rows = make_rows(20, classes=8)
    layouts = layouts_within(rows, budget, 27)
    assert layouts[0].inputs.keys() == {FINAL_BLOCK}
    for layout in layouts[1:]:
        assert layout.numbers(8) <= budget
    start = find_start(rows, budget)
    numbers = start.weight.numel() + start.bias.numel() + (0 if start.expand is None else start.expand.numel())
    assert numbers <= max(budget, 8 * 7)
    assert numbers <= start.evidence["chosen"]["numbers"]


def test_moments_take_the_place_of_final_features_where_they_say_more() -> None:
    rows = make_rows(20, classes=8)
    layouts = layouts_within(rows, 8 * 13, 27)
    assert [tuple(layout.inputs) for layout in layouts] == [
        (FINAL_BLOCK,),
        (FINAL_BLOCK, ANSWERS_BLOCK),
        (FINAL_BLOCK, MOMENTS_BLOCK),
        (MOMENTS_BLOCK,),
    ]
    assert [len(layout.inputs.get(MOMENTS_BLOCK, [])) for layout in layouts] == [0, 0, 6, 12]
    assert find_start(rows, 8 * 13).evidence["chosen"]["inputs"] == {MOMENTS_BLOCK: 12}


def test_lower_ranks_are_not_tried_once_one_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snow.delta.pass_rows.RANKS", (8, 2, 1))
    start = find_start(make_rows(20, classes=12, strength=4.0), 8 * (27 + 12) + 12)
    losses: dict[int | None, float] = {}
    for layout in start.evidence["layouts"]:
        losses[layout["rank"]] = min(layout["loss"], losses.get(layout["rank"], layout["loss"]))
    *tried, last = losses.values()
    assert 1 not in losses
    assert last > tried[-1]
    assert tried == sorted(tried, reverse=True)


def test_many_classes_may_have_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snow.delta.pass_rows.RANKS", (4,))
    rows = make_rows(20, classes=12, strength=4.0)
    start = find_start(rows, 4 * (27 + 12) + 12)
    tried = [layout["rank"] for layout in start.evidence["layouts"]]
    assert 4 in tried
    low = [layout for layout in start.evidence["layouts"] if layout["rank"] == 4]
    assert low[0]["inputs"] == SIZES
    if start.evidence["chosen"]["rank"] == 4:
        assert start.weight.shape == (4, len(start.index))
        assert start.expand is not None


def test_evidence_says_what_was_tried_and_chosen() -> None:
    evidence = find_start(make_rows(10), 10_000).evidence
    assert (evidence["pictures"], evidence["views"], evidence["left_out"]) == (30, 3, 30)
    assert evidence["chosen"] in evidence["layouts"]
    weights = [candidate["weight"] for candidate in evidence["chosen"]["candidates"]]
    assert sum(weights) == pytest.approx(1, abs=1e-3)
    assert weights == sorted(weights, reverse=True)
    assert all(sum(candidate["shares"].values()) == pytest.approx(1) for candidate in evidence["chosen"]["candidates"])


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 0, 2], [0, 1, 1, 1, 1, 1, 1]])
def test_a_poor_sample_still_gives_numbers(labels: list[int]) -> None:
    rows = make_rows(len(labels), classes=1)._replace(label=torch.tensor(labels), num_classes=4)
    rows.blocks[MOMENTS_BLOCK][..., :8] = 3.0
    start = find_start(rows, 10_000)
    assert logits(start, rows).isfinite().all()
    assert start.gain.abs().max() < 1e4


def test_scales_are_those_of_the_smallest_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(4, (500,), generator=generator)
    answers = torch.randn(500, 4, generator=generator) + torch.nn.functional.one_hot(label, 4)
    scale = best_scale(answers, label)
    around = [log_loss(answers * scale * factor, label) for factor in (0.7, 0.95, 1.05, 1.4)]
    assert log_loss(answers * scale, label) < min(around) + 1e-4
    assert best_scale(answers * 10, label) == pytest.approx(scale / 10, rel=1e-2)
    assert best_scale(torch.zeros(500, 4), label) == 1.0


def test_a_few_right_answers_are_not_certain() -> None:
    label = torch.arange(6) % 2
    answers = torch.nn.functional.one_hot(label, 2).float()
    sure = (answers * best_scale(answers, label)).softmax(1).amax(1)
    assert sure == pytest.approx(1 - 1 / 8, abs=0.01)


def test_candidates_are_weighed_by_their_evidence() -> None:
    def candidate(loss: float, prior: float = 0.0) -> Candidate:
        nothing = torch.zeros(1, 2)
        return Candidate({}, 1.0, nothing, nothing, nothing, nothing, loss, 0.5, prior)

    best, other, poor = candidate(0.5), candidate(0.52), candidate(0.9)
    weighted = weigh([poor, other, best], 50)
    assert [pair[0] for pair in weighted] == [best, other]
    ratio = weighted[0][1] / weighted[1][1]
    assert ratio == pytest.approx(torch.tensor(50 * 0.02).exp().item(), rel=1e-4)
    favoured = weigh([candidate(0.5), candidate(0.5, prior=-2.0)], 50)
    assert favoured[0][1] / favoured[1][1] == pytest.approx(torch.tensor(2.0).exp().item(), rel=1e-4)


def test_a_few_sure_slips_do_not_make_all_answers_unsure() -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(2000) % 50
    answers = torch.randn(2000, 50, generator=generator)
    answers[torch.arange(2000), label] += 4.0  # the scale that fits is about 1
    fitting = best_scale(answers, label)
    assert robust_scale(answers, label) == pytest.approx(fitting, rel=0.05)
    slips = answers.clone()
    slips[:100] = slips[:100].roll(1, 1) * 3
    assert best_scale(slips, label) < 0.8 * fitting
    assert robust_scale(slips, label) == pytest.approx(fitting, rel=0.1)


def test_moments_that_repeat_each_other_leave_room_for_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten strong moments say the same of class 0; a weaker one alone tells classes 1 and 2 apart."""

    def repeating(per_class: int, seed: int) -> PassRows:
        rows = make_rows(per_class, signal="none", views=1, seed=seed)
        moments = rows.blocks[MOMENTS_BLOCK]
        moments[..., :10] = 4 * moments[..., :1] + 0.5 * moments[..., :10] + 200.0 * (rows.label == 0)[:, None]
        moments[..., 10] += 8.0 * (rows.label == 1)
        return rows

    monkeypatch.setattr(module, "MAX_FOLDED_ROWS", 10)
    rows, new = repeating(60, 0), repeating(200, 1)
    budget = 3 + 3 * 7  # seven moments
    start = find_start(rows, budget)
    assert start.evidence["chosen"]["inputs"] == {MOMENTS_BLOCK: 7}
    assert accuracy(start, new) > 0.75
    monkeypatch.setattr(module, "WIDE_EQUATIONS", 0)
    assert accuracy(find_start(rows, budget), new) < 0.7
