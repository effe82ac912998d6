"""Windows of pictures beside those of training: what looks or shows something else differs, another mix does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from snow.errors import DamagedError
from snow.inference.appearance import FIGURES, appearance
from snow.inference.calibration import extend_familiarity
from snow.inference.drift import Drift
from snow.inference.familiarity import Familiarity
from snow.inference.reference import MARGIN, Differences, Traits
from snow.inference.windows import FALSE_ALARMS, SIZES, class_limits, upper_quantile

WIDTH, CLASSES = 48, 3


def pictures(count: int, seed: int, classes: tuple[int, ...] = (0, 1, 2)) -> tuple[Tensor, Tensor, Tensor]:
    """Final features, appearance and labels; both of the first depend on the class."""
    generator, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(99)
    means = torch.randn(CLASSES, WIDTH, generator=fixed) * 2 + 6
    looks = torch.randn(CLASSES, FIGURES, generator=fixed)
    label = torch.tensor(classes)[torch.arange(count) % len(classes)]
    noise = torch.randn(count, WIDTH + FIGURES, generator=generator)
    return means[label] + noise[:, :WIDTH], looks[label] + 0.5 * noise[:, WIDTH:], label


@pytest.fixture(scope="module")
def fitted() -> Familiarity:
    final, looks, label = pictures(300, 0)
    familiarity = Familiarity.fit(final, label, appearance=looks)
    assert familiarity is not None
    return familiarity


def differences(familiarity: Familiarity, final: Tensor, looks: Tensor) -> tuple[float, ...]:
    located, reference = familiarity.locate(final), familiarity.reference
    assert reference is not None
    rows = zip(located.nearest.tolist(), located.z, looks, strict=True)
    traits = [Traits(reference, *row) for row in rows]
    return reference.differences(traits)[:2]


def correlated(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Final features, appearance and labels of two classes, whose figures go along with one another."""
    generator, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(98)
    means, looks = 8 + torch.randn(2, 300, generator=fixed), torch.randn(2, FIGURES, generator=fixed)
    mixed = torch.randn(FIGURES, FIGURES, generator=fixed)
    label = torch.arange(count) % 2
    final = means[label] + torch.randn(count, 300, generator=generator)
    return final, looks[label] + torch.randn(count, FIGURES, generator=generator) @ mixed, label


def drift(familiarity: Familiarity, final: Tensor, looks: Tensor) -> Drift:
    located, reference = familiarity.locate(final), familiarity.reference
    assert reference is not None
    return Drift.from_differences(
        familiarity.share(located.scores).tolist(), reference.differences_of(located.nearest, located.z, looks)
    )


@pytest.mark.parametrize("size", [20, 200])
@pytest.mark.parametrize("classes", [(0, 1, 2), (0,), (2, 2, 1)])
def test_another_sample_raises_no_more_alarms_than_is_said(
    fitted: Familiarity, size: int, classes: tuple[int, ...]
) -> None:
    alarms = [max(differences(fitted, *pictures(size, seed, classes)[:2])) > 0 for seed in range(1, 101)]
    assert sum(alarms) <= 3, f"{FALSE_ALARMS} of 100, and chance"


@pytest.mark.parametrize("size", [20, 100])
def test_a_change_is_noticed_where_it_is(fitted: Familiarity, size: int) -> None:
    final, looks, _ = pictures(size, 5)
    content, seen = differences(fitted, final, looks - torch.eye(FIGURES)[0])
    assert content == 0
    assert 0.2 < seen < 1
    content, seen = differences(fitted, final + torch.linspace(-3, 3, WIDTH), looks)
    assert content > 0.5
    assert seen == 0


def test_few_pictures_say_nothing_and_a_small_shift_is_left_alone(fitted: Familiarity) -> None:
    final, looks, _ = pictures(SIZES[0] - 1, 5)
    assert differences(fitted, final, looks - 9) == (0.0, 0.0)
    final, looks, _ = pictures(3000, 6)
    assert differences(fitted, final, looks + 0.4 * MARGIN * 0.5 * torch.eye(FIGURES)[0]) == (0.0, 0.0)


def test_one_verdict_of_all_three(fitted: Familiarity) -> None:
    known = [(number + 0.5) / 50 for number in range(50)]
    assert not Drift.from_differences(known, Differences(0.0, 0.0, 0.0)).has_changed
    assert Drift.from_differences(known, Differences(0.0, 0.3, 0.0)).has_changed
    assert Drift.from_differences(known, Differences(0.2, 0.3, 0.0)).strength == 0.3
    assert Drift.of(known) == Drift.from_differences(known, None)
    low = [value / 2 for value in known]
    assert Drift.of(low).has_changed
    assert not Drift.from_differences(low, Differences(0.0, 0.0, 0.5)).has_changed, "the mix explains it"


def test_an_update_learns_what_new_classes_look_like(fitted: Familiarity) -> None:
    final, looks, _ = pictures(80, 7, (0,))
    final, looks = final + torch.linspace(-6, 6, WIDTH), looks + 2
    assert min(differences(fitted, final, looks)) > 0.5
    added = torch.full((40,), CLASSES)
    extended = extend_familiarity(fitted, final[:40], added, looks[:40])
    assert differences(extended, final[40:], looks[40:]) == (0.0, 0.0)
    assert differences(extended, *pictures(60, 8)[:2]) == (0.0, 0.0)
    assert differences(extended.selected([0, 1, 2]), *pictures(60, 8)[:2]) == (0.0, 0.0)
    assert extend_familiarity(fitted, final[:40], added).reference is None


def test_pictures_of_a_new_class_that_differ_more_raise_no_drift(fitted: Familiarity) -> None:
    """Limits follow the class that a window holds; those of the others stay."""
    final, looks, _ = pictures(400, 7, (0,))
    generator = torch.Generator().manual_seed(2)
    final, looks = final + torch.linspace(-6, 6, WIDTH), looks + 2 + torch.randn(looks.shape, generator=generator)
    extended = extend_familiarity(fitted, final[:40], torch.full((40,), CLASSES), looks[:40])
    assert extended.reference is not None
    assert extended.reference.appearance.factors is not None
    assert extended.reference.appearance.factors[:CLASSES].unique().tolist() == [1.0]
    rows = [40 + torch.randperm(360, generator=generator)[:20] for _ in range(100)]
    alarms = [max(differences(extended, final[each], looks[each])) > 0 for each in rows]
    assert sum(alarms) <= 3
    kept = replace(extended.reference, appearance=replace(extended.reference.appearance, factors=None))
    alarms = [max(differences(replace(extended, reference=kept), final[each], looks[each])) > 0 for each in rows]
    assert sum(alarms) > 50, "with the limits of the first training"
    for size in (20, 100):
        other, usual, _ = pictures(size, 5)
        assert differences(extended, other, usual - torch.eye(FIGURES)[0])[1] > 0.2
    again = Familiarity.of_tensors(load(save(extended.tensors())))
    assert differences(again, final[:50] + 1, looks[:50] - 9) == differences(extended, final[:50] + 1, looks[:50] - 9)
    only = extended.selected([0, CLASSES])
    assert only.reference is not None
    assert only.reference.appearance.factors is not None
    assert only.reference.appearance.factors.shape == (2, len(SIZES))


@pytest.mark.parametrize("count", [20, 40])
def test_tasks_of_few_pictures_raise_no_more_alarms_than_is_said(count: int) -> None:
    """Neither by another sample, nor by their own pictures, which they know too well; but by other light."""
    alarms, own, dark = [], [], []
    for seed in range(12):
        final, looks, label = correlated(count, seed)
        task = Familiarity.fit(final, label, seed, looks)
        assert task is not None
        for number in range(4):
            new, other, _ = correlated(50, 1000 + 4 * seed + number)
            alarms.append(drift(task, new, other).has_changed)
        own.append(drift(task, final.repeat(3, 1), looks.repeat(3, 1)).has_changed)
        dark.append(drift(task, new, other - 8 * torch.eye(FIGURES)[0]).has_changed)
    assert sum(alarms) <= 1, "of 48"
    assert not any(own)
    assert all(dark)


def test_the_quantile_is_that_of_a_covariance_of_few_pictures() -> None:
    """Hotelling's T² in 8 directions with a covariance of 20 degrees of freedom, and with the true one."""
    torch.manual_seed(0)
    mean, degrees = torch.randn(40_000, 8, 1), 20
    rows = torch.randn(40_000, degrees, 8)
    covariance = rows.transpose(1, 2) @ rows / degrees
    squared = (mean * torch.linalg.solve(covariance, mean)).sum((1, 2))
    wanted = 1 - FALSE_ALARMS / 2
    further = degrees / (degrees - 8 - 1)
    limit = upper_quantile(torch.tensor(8.0), torch.tensor(16.0), further, 8)
    assert float(limit) == pytest.approx(float(squared.quantile(wanted)), rel=0.05)
    plain = upper_quantile(torch.tensor(8.0), torch.tensor(16.0))
    assert float(plain) == pytest.approx(float(mean.square().sum((1, 2)).quantile(wanted)), rel=0.03)


def test_limits_of_a_class_in_closed_form_are_those_of_simulated_windows() -> None:
    """Pictures whose mean is not what their cluster explains, and that vary twice as much along one figure."""
    generator, scale = torch.Generator().manual_seed(0), torch.tensor([2.0, 1.0, 1.0, 0.5])
    offset, centre = torch.tensor([0.3, 0.0, 0.0, 0.0]), 1 / 400
    sizes = torch.tensor(SIZES)
    limits = class_limits(offset + scale * torch.randn(4000, 4, generator=generator), 1 / sizes + centre)
    for place in (1, 3):
        size = SIZES[place]
        means = (offset + scale * torch.randn(4000, size, 4, generator=generator)).mean(1)
        simulated = (means.square().sum(1) / (1 / size + centre)).quantile(1 - FALSE_ALARMS / 2)
        assert float(limits[place]) == pytest.approx(float(simulated), rel=0.1)


def test_what_was_saved_is_read_and_early_versions_have_none(fitted: Familiarity) -> None:
    tensors = load(save(fitted.tensors()))
    again = Familiarity.of_tensors(tensors)
    final, looks, _ = pictures(30, 9)
    assert differences(again, final, looks - 1) == differences(fitted, final, looks - 1)
    early = Familiarity.of_tensors({name: value for name, value in tensors.items() if "reference" not in name})
    assert early.reference is None
    assert torch.equal(early.known(final), fitted.known(final))
    for name in ("reference.counts", "reference.appearance.root"):
        with pytest.raises(DamagedError, match="reference"):
            Familiarity.of_tensors({**tensors, name: tensors[name][:-1]})
        with pytest.raises(DamagedError, match="reference"):
            Familiarity.of_tensors({key: value for key, value in tensors.items() if key != name})


def test_training_pictures_that_all_look_alike() -> None:
    final, looks, label = pictures(60, 0)
    familiarity = Familiarity.fit(final, label, appearance=looks[:1].expand(60, -1))
    assert familiarity is not None
    assert all(value.isfinite().all() for value in familiarity.tensors().values())
    window = pictures(40, 3)[0]
    assert differences(familiarity, window, looks[:1].expand(40, -1) + 0.003)[1] == 0
    assert differences(familiarity, window, looks[:1].expand(40, -1) + 0.5)[1] > 0.5


def test_appearance_by_hand() -> None:
    grey = torch.full((1, 3, 16, 16), 128, dtype=torch.uint8)
    stripes = grey.clone()
    stripes[..., ::2] = 64
    figures = appearance(torch.cat([grey, grey // 2, stripes]))
    assert figures.shape == (3, FIGURES)
    assert float((figures[1] - figures[0])[0]) == pytest.approx(-0.69, abs=0.02), "half the light"
    assert figures[0, 2:4].tolist() == pytest.approx([0, 0], abs=1e-5)
    assert figures[2, 4] > figures[0, 4] + 3, "edges of the finest scale"
    assert figures[2, 5:].tolist() == pytest.approx(figures[0, 5:].tolist()), "and none along diagonals, or coarser"
    red = grey.clone()
    red[:, 0] = 255
    assert appearance(red)[0, 2] > 0.5


def test_the_smallest_pictures_have_an_appearance() -> None:
    for side in (1, 2, 3, 7):
        assert appearance(torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)).isfinite().all()
