"""How familiar a picture is: figures that can be computed by hand, and pictures that no class explains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from snow.errors import DamagedError
from snow.inference.calibration import extend_familiarity
from snow.inference.drift import Drift
from snow.inference.familiarity import QUANTILES, Familiarity
from snow.kinds.scores import auroc

WIDTH = 96


def pictures(count: int, classes: int = 4, seed: int = 0, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Final features around class means; `shift` moves all of them away in one direction."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, WIDTH, generator=torch.Generator().manual_seed(1)) * 2 + 6
    label = torch.arange(count) % classes
    away = torch.linspace(-1, 1, WIDTH) * shift
    return means[label] + torch.randn(count, WIDTH, generator=generator) + away, label


@pytest.fixture(scope="module")
def fitted() -> Familiarity:
    familiarity = Familiarity.fit(*pictures(400))
    assert familiarity is not None
    return familiarity


def test_own_pictures_are_spread_evenly(fitted: Familiarity) -> None:
    known = fitted.known(pictures(2000, seed=5)[0])
    for share in (0.05, 0.2, 0.5, 0.9):
        assert float((known < share).float().mean()) == pytest.approx(share, abs=0.06)
    assert 0 < known.min() <= known.max() <= 1


@pytest.mark.parametrize("count", [24, 48])
def test_pictures_are_as_familiar_to_a_task_of_few_as_its_own(count: int) -> None:
    """Those that were left out to tell how familiar own pictures are were asked with as much as the task knows."""
    known = torch.zeros(0)
    for seed in range(20):
        task = Familiarity.fit(*pictures(count, classes=2, seed=seed))
        assert task is not None
        known = torch.cat([known, task.known(pictures(40, classes=2, seed=100 + seed)[0])])
    for share in (0.1, 0.25, 0.5, 0.75):
        assert float((known < share).float().mean()) == pytest.approx(share, abs=0.06)


def test_what_no_class_explains_is_unknown(fitted: Familiarity) -> None:
    other = fitted.known(pictures(200, seed=6, shift=8.0)[0])
    assert float((other < 0.05).float().mean()) > 0.95
    own = fitted.known(pictures(200, seed=7)[0])
    assert auroc(torch.cat([own, other]), torch.arange(400) < 200) > 0.99
    further = fitted.known(pictures(200, seed=6, shift=30.0)[0])
    assert further.mean() < other.mean()


def test_a_class_that_was_left_out_is_less_familiar(fitted: Familiarity) -> None:
    final, label = pictures(400)
    three = Familiarity.fit(final[label != 3], label[label != 3])
    assert three is not None
    asked, answer = pictures(400, seed=8)
    assert auroc(three.known(asked), answer != 3) > 0.95


def test_the_size_of_features_does_not_matter(fitted: Familiarity) -> None:
    final = pictures(20, seed=9)[0]
    torch.testing.assert_close(fitted.known(final), fitted.known(3 * final))


def test_an_update_is_as_if_all_had_been_there(fitted: Familiarity) -> None:
    final, label = pictures(300, seed=3)
    first, second = label < 3, label == 3
    start = extend_familiarity(fitted, final[first], label[first])
    step = extend_familiarity(start, final[second][:40], label[second][:40])
    step = extend_familiarity(step, final[second][40:], label[second][40:])
    whole = extend_familiarity(fitted, final, label)
    torch.testing.assert_close(step.means, whole.means, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(step.scatter, whole.scatter, rtol=1e-3, atol=1e-2)
    assert step.counts.tolist() == whole.counts.tolist()


def test_a_new_cluster_is_familiar_afterwards(fitted: Familiarity) -> None:
    new, _ = pictures(230, classes=1, seed=4, shift=8.0)
    before = fitted.known(new[30:])
    extended = extend_familiarity(fitted, new[:30], torch.full((30,), 4))
    after = extended.known(new[30:])
    assert (before < 0.05).float().mean() > 0.9
    assert after.mean() > 10 * before.mean()
    assert (after < 0.05).float().mean() <= 0.2
    assert 0.3 < after.median() < 0.7
    own, other = pictures(200, seed=5)[0], pictures(200, seed=6, shift=-8.0)[0]
    assert float(extended.known(own).median()) == pytest.approx(float(fitted.known(own).median()), abs=0.1)
    assert (extended.known(other) < 0.05).float().mean() > 0.95, "what no class explains stays unknown"


def test_a_class_that_differs_more_is_as_familiar_as_others(fitted: Familiarity) -> None:
    """Its scores are spread as widely as those of the first training."""
    new, _ = pictures(330, classes=1, seed=4, shift=8.0)
    new = new + 2 * torch.randn(new.shape, generator=torch.Generator().manual_seed(3))
    after = extend_familiarity(fitted, new[:130], torch.full((130,), 4)).known(new[130:])
    for share in (0.05, 0.2, 0.5, 0.8):
        assert float((after < share).float().mean()) == pytest.approx(share, abs=0.13)


def test_more_pictures_of_a_class_count_as_far_as_it_consists_of_them(fitted: Familiarity) -> None:
    new, _ = pictures(60, classes=1, seed=4, shift=8.0)
    first = extend_familiarity(fitted, new[:20], torch.full((20,), 4))
    assert first.calibration is not None
    assert first.calibration[:4].tolist() == [[0.0, 1.0]] * 4
    again = extend_familiarity(first, new[20:40], torch.full((20,), 4))
    assert again.calibration is not None
    assert again.calibration[4].tolist() == pytest.approx(first.calibration[4].tolist(), rel=0.3)
    assert again.known(new[40:]).median() > 0.2
    more = extend_familiarity(fitted, pictures(4, seed=8)[0], torch.zeros(4, dtype=torch.int64))
    assert more.calibration is not None
    assert abs(more.calibration[0] - torch.tensor([0.0, 1.0])).max() < 0.1 * first.calibration[4, 0]


def test_the_only_picture_of_a_class_calibrates_nothing(fitted: Familiarity) -> None:
    new, _ = pictures(1, classes=1, seed=4, shift=8.0)
    one = extend_familiarity(fitted, new, torch.tensor([4]))
    assert one.calibration is not None
    assert one.calibration[4].tolist() == [0.0, 1.0]
    assert one.known(new).isfinite().all()


def test_a_class_that_is_removed_is_forgotten(fitted: Familiarity) -> None:
    """Also where pictures are compared with their neighbours."""
    final, label = pictures(400)
    near = replace(fitted, neighbours=(fitted._standardised(final) @ fitted.basis.float().T)[::2])
    removed = near.selected([0, 1, 3])
    assert (len(near.neighbours), len(removed.neighbours)) == (200, 100)
    asked, label = pictures(200, seed=8)
    assert removed.scores(asked[label == 2]).median() < near.scores(asked[label == 2]).median() - 300
    kept = asked[label == 0]
    assert removed.scores(kept).median() == pytest.approx(float(near.scores(kept).median()), abs=30)


def test_too_few_pictures_tell_nothing() -> None:
    assert Familiarity.fit(*pictures(6)) is None
    assert Familiarity.fit(torch.full((40, WIDTH), torch.nan), torch.arange(40) % 4) is None
    final, label = pictures(40)
    assert Familiarity.fit(final, torch.full_like(label, -1)) is None


def test_what_was_saved_after_an_extension_is_read(fitted: Familiarity) -> None:
    assert "calibration" not in fitted.tensors(), "a task that was not extended is saved as before"
    new, _ = pictures(40, classes=1, seed=4, shift=8.0)
    extended = extend_familiarity(fitted, new, torch.full((40,), 4))
    tensors = extended.tensors()
    assert torch.equal(Familiarity.of_tensors(tensors).known(new), extended.known(new))
    with pytest.raises(DamagedError, match="calibration"):
        Familiarity.of_tensors({**tensors, "calibration": tensors["calibration"][1:]})


def test_what_was_saved_is_read(fitted: Familiarity) -> None:
    final = pictures(10, seed=2)[0]
    again = Familiarity.of_tensors(fitted.tensors())
    assert torch.equal(again.known(final), fitted.known(final))
    assert len(again.quantiles) == QUANTILES
    for name in ("means", "basis", "quantiles"):
        tensors = fitted.tensors()
        tensors[name] = tensors[name][:-1]
        with pytest.raises(DamagedError):
            Familiarity.of_tensors(tensors)
    with pytest.raises(DamagedError, match="missing or unknown"):
        Familiarity.of_tensors({})


def test_drift_by_hand() -> None:
    drift = Drift.of([0.01, 0.02, 0.03, 0.5])
    assert drift.distance == pytest.approx(0.72)  # three of four are below 0.03 already
    assert (drift.images, drift.unfamiliar) == (4, 0.75)
    assert not drift.has_changed, "four pictures say nothing"
    assert Drift.of([]).distance == 0.0
    more = Drift.of([0.9 + number / 1000 for number in range(100)])
    assert more.distance == pytest.approx(0.001)
    assert not more.has_changed, "as a task's own pictures are, when it has learned from few"


def test_another_sample_is_no_drift_and_other_pictures_are(fitted: Familiarity) -> None:
    assert not Drift.of(fitted.known(pictures(200, seed=11)[0]).tolist()).has_changed
    other = Drift.of(fitted.known(pictures(200, seed=12, shift=3.0)[0]).tolist())
    assert other.has_changed
    assert other.distance > 0.5
