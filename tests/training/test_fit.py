from __future__ import annotations

import pickle
import random
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tiny import Blind, Noisy, built, same_tensors, tiny_dataset, tiny_pictures, tiny_recipe, tiny_runtime, tiny_source
from torch import Tensor

from snow.data import Dataset, Task
from snow.errors import DivergedError, SnowError
from snow.methods import Method
from snow.source import Features, Source
from snow.training import Recipe
from snow.training.fit import fit
from snow.training.history import Fitted
from snow.training.listeners import Listener


def run(
    learners: dict[str, Method], recipe: Recipe | None = None, dataset: Dataset | None = None, **options: Any
) -> Fitted:
    source = options.pop("source", None) or tiny_source()
    runtime = tiny_runtime(workers=options.pop("workers", 0))
    return fit(source, learners, dataset or tiny_dataset(), recipe or tiny_recipe(), runtime=runtime, **options)


class CountingSource(Source):
    """Keeps what it, or a copy, was asked for; with None, to be folded, it is asked for all."""

    asked: ClassVar[list[frozenset[str]]] = []

    def forward(self, images: Tensor, taps: Any = None, final: bool = True) -> Features:
        if taps is not None:
            self.asked.append(frozenset(taps))
        return super().forward(images, taps, final)


def counting_source() -> CountingSource:
    source = tiny_source()
    source.__class__ = CountingSource
    CountingSource.asked.clear()
    return source


def test_it_learns() -> None:
    method = built()
    fitted = run({"colour": method}, tiny_recipe(epochs=12), tiny_dataset(train=48, test=30))
    assert fitted.learners == {"colour": method}
    assert not method.training
    assert fitted.metrics["colour"].top1 > 0.9
    assert fitted.metrics["colour"].images == 30
    assert [record.epoch for record in fitted.history] == list(range(1, 13))
    assert fitted.history[-1].loss < fitted.history[0].loss
    assert fitted.history[-1].accuracy > 0.9
    assert all(record.seconds > 0 and record.images_per_second > 0 for record in fitted.history)
    assert fitted.is_first


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_source_stays_bit_identical(optimizer: str) -> None:
    source = tiny_source()
    run({"colour": built()}, tiny_recipe(optimizer=optimizer, lr=0.1), source=source)
    assert same_tensors(source, tiny_source())
    assert source.fingerprint == tiny_source().fingerprint


def test_the_seed_decides() -> None:
    methods = [built() for _ in range(3)]
    for method, seed in zip(methods, (0, 0, 1), strict=True):
        run({"colour": method}, tiny_recipe(seed=seed))
    assert same_tensors(methods[0], methods[1])
    assert not same_tensors(methods[0], methods[2])


def test_the_callers_random_numbers_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    run({"colour": built()}, workers=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_learners_share_one_pass_for_the_union_of_their_taps() -> None:
    source = counting_source()
    methods = {"a": built(), "b": built(tap="block1", channels=8), "c": built(Blind)}
    run(methods, tiny_recipe(epochs=2, calibration=0), source=source)
    assert source.asked == [frozenset({"block1", "block2"})] * (2 * 3 + 2)


def test_side_by_side_is_as_alone() -> None:
    together = {"colour": built(noise=0.0), "shade": built(noise=0.0, seed=1)}
    run(together, dataset=tiny_dataset(tasks=2))
    for name, seed in (("colour", 0), ("shade", 1)):
        alone = built(noise=0.0, seed=seed)
        run({name: alone}, dataset=tiny_dataset(tasks=2))
        assert same_tensors(alone, together[name])


def test_without_users_of_the_source_there_is_no_pass() -> None:
    class Checking(Blind):
        def forward(self, features: Features) -> Tensor:
            assert not features.maps
            assert features.final.shape == features.logits.shape == (len(features.images), 0)
            return super().forward(features)

    source = counting_source()
    fitted = run({"colour": Checking(3)}, tiny_recipe(epochs=20, lr=0.1), source=source)
    assert source.asked == []
    assert fitted.metrics["colour"].top1 > 0.9


def test_pictures_without_a_label_teach_and_count_nothing() -> None:
    labels = torch.tensor([[0, 0], [1, -1], [2, 2], [0, 0], [1, -1], [2, 2], [0, -1], [1, -1]])
    tasks = (Task("colour", ("r", "g", "b")), Task("shade", ("r", "g", "b")))
    dataset = Dataset(tasks, tiny_pictures(labels), tiny_pictures(labels))
    method = built(Blind)
    fitted = run({"shade": method}, tiny_recipe(epochs=1, lr=1e-9, label_smoothing=0.0), dataset)
    assert fitted.metrics["shade"].images == 4
    features = source_images(dataset)
    known = labels[:, 1] >= 0
    logits = method(features)[known]
    expected = torch.nn.functional.cross_entropy(logits, labels[known, 1])
    assert fitted.history[0].loss == pytest.approx(expected.item(), abs=1e-4)


def source_images(dataset: Dataset) -> Features:
    images = torch.stack([image for image, _ in dataset.train])
    normalised = tiny_source().preprocessing.normalize(images)
    return Features(normalised, {}, torch.empty(len(images), 0), torch.empty(len(images), 0))


def test_a_batch_without_any_label_is_no_step() -> None:
    labels = torch.tensor([[0, -1], [1, -1], [2, -1], [0, -1], [1, 0], [2, 1]])
    tasks = (Task("colour", ("r", "g", "b")), Task("shade", ("r", "g", "b")))
    method = built(noise=0.0)
    dataset = Dataset(tasks, tiny_pictures(labels), tiny_pictures(labels))
    run({"shade": method}, tiny_recipe(epochs=4, batch_size=2), dataset)
    assert 4 <= int(method.seen) < 12
    assert int(method.seen) == len(method.progress)


def test_a_learner_needs_a_task_of_its_name_where_there_are_several() -> None:
    with pytest.raises(SnowError, match="hue.*colour, shade"):
        run({"hue": built()}, dataset=tiny_dataset(tasks=2))
    with pytest.raises(SnowError, match="at least one learner"):
        run({})


def test_calibration_sees_labelled_training_pictures_once_and_progress_rises() -> None:
    method = built()
    seen = []

    def calibrate(batches: Any) -> None:
        for features, labels in batches:
            assert not method.training
            seen.append((len(features.images), labels.tolist()))

    method.calibrate = calibrate
    run({"shade": method}, tiny_recipe(calibration=10), tiny_dataset(tasks=2))
    assert [count for count, _ in seen] == [8, 2]
    assert min(label for _, labels in seen for label in labels) >= 0
    assert method.progress == pytest.approx([step / 9 for step in range(9)])


def test_no_calibration_if_none_is_asked_for() -> None:
    method = built()
    run({"colour": method}, tiny_recipe(calibration=0))
    assert method.calibrations == 0


def test_held_out_pictures_are_not_learned_and_are_measured() -> None:
    dataset = tiny_dataset(train=24)
    loaded: list[int] = []
    items = [lambda i=i, item=item: (loaded.append(i), item())[1] for i, item in enumerate(dataset.train.items)]
    dataset = Dataset(dataset.tasks, type(dataset.train)(items, dataset.train.labels), dataset.test)
    fitted = run({"colour": built()}, tiny_recipe(validation=0.25, calibration=0, epochs=4), dataset)
    times = [loaded.count(i) for i in range(24)]
    assert times == [4] * 24, "each picture is either learned or measured, once an epoch"
    rest, part = dataset.train.split(0.25, 0)
    assert (len(rest), part.labels.flatten().bincount().tolist()) == (18, [2, 2, 2])
    assert all(0 <= (record.validation or 0) <= 1 for record in fitted.history)
    assert fitted.history[0].validation is not None
    assert run({"colour": built()}).history[0].validation is None


class Scripted(Noisy):
    """Right on what it is shown in evaluation after `good` epochs, wrong after that."""

    good = 2

    def forward(self, features: Features) -> Tensor:
        logits = super().forward(features)
        if self.training or round(self.progress[-1] * 10) > self.good:
            return logits
        brightest = features.images.mean((2, 3))
        return brightest * 100 + 0 * logits


def test_early_stopping_keeps_the_best_weights() -> None:
    states: list[dict[str, Tensor]] = []

    class Keep(Listener):
        def on_epoch(self, records: Any) -> None:
            states.append({name: value.clone() for name, value in method.state_dict().items()})

    method = Scripted(3)
    other = built(seed=3)
    recipe = tiny_recipe(epochs=10, validation=0.25, patience=3, lr=1e-6, batch_size=24, warmup_epochs=0)
    fitted = run({"a": method, "b": other}, recipe, listeners=[Keep()])
    mine = [record for record in fitted.history if record.learner == "a"]
    assert mine[0].validation == 1.0
    assert mine[3].validation is not None
    assert mine[3].validation < 1.0
    assert len(mine) == 4, "the first was best, and three more were waited for"
    assert all(torch.equal(value, states[0][name]) for name, value in method.state_dict().items())
    assert not torch.equal(states[0]["classifier.weight"], states[1]["classifier.weight"])


class Diverging(Noisy):
    """Its loss is not a number from its fifth step on."""

    def forward(self, features: Features) -> Tensor:
        logits = super().forward(features)
        return logits * float("nan") if self.training and self.seen >= 5 else logits


def test_a_loss_that_is_not_finite_ends_the_run_with_one_line(tmp_path: Any) -> None:
    path = tmp_path / "checkpoint.pt"
    told = r"loss of colour .* epoch 2, step 2 of 3.*below 0\.01.*checkpoint"
    with pytest.raises(DivergedError, match=told) as caught:
        run({"colour": Diverging(3)}, checkpoint=path)
    assert "\n" not in str(caught.value)
    handed_over = pickle.loads(pickle.dumps(caught.value))
    assert (handed_over.learner, str(handed_over)) == ("colour", str(caught.value))
    resumed = Noisy(3)
    with pytest.raises(SnowError, match="was"):
        run({"other": resumed}, checkpoint=path, resume=True)
    run({"colour": resumed}, checkpoint=path, resume=True)
    assert int(resumed.seen) == 9


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Any) -> None:
    path = tmp_path / "checkpoint.pt"
    method = built()
    method.classifier.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(SnowError, match="epoch 1, step 1 of 1.*learning rate"):
        run({"colour": method}, tiny_recipe(optimizer="sgd", batch_size=24), checkpoint=path)
    assert not path.exists()


def test_a_picture_that_cannot_be_read_is_one_line() -> None:
    dataset = tiny_dataset()

    def broken() -> Any:
        raise OSError("no such thing")

    items = [*dataset.train.items[:-1], broken]
    dataset = Dataset(dataset.tasks, type(dataset.train)(items, dataset.train.labels), dataset.test)
    for workers in (0, 1):
        with pytest.raises(SnowError, match="no such thing") as caught:
            run({"colour": built()}, tiny_recipe(calibration=0), dataset, workers=workers)
        assert "Traceback" not in str(caught.value)


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes = set()

    class Watching(Noisy):
        def forward(self, features: Features) -> Tensor:
            if self.training:
                dtypes.add(self.classifier(self.body(features.maps[self.tap]).mean((2, 3))).dtype)
            return super().forward(features)

    for precision, hardware, expected in (
        ("32", True, torch.float32),
        ("bf16", False, torch.bfloat16),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
    ):
        monkeypatch.setattr("snow.training.launch.computes_in_bf16", lambda device, answer=hardware: answer)
        dtypes.clear()
        method = Watching(3)
        run({"colour": method}, tiny_recipe(precision=precision, epochs=1))
        assert dtypes == {expected}
        assert {value.dtype for value in method.parameters()} == {torch.float32}
    with pytest.raises(SnowError, match="16 needs a GPU"):
        run({"colour": built()}, tiny_recipe(precision="16"))


def test_gradients_are_clipped() -> None:
    norms = []
    for clip in (0.0, 1e-3):
        method = built(noise=0.0)
        before = [value.clone() for value in method.parameters()]
        recipe = tiny_recipe(
            epochs=1, optimizer="sgd", lr=1.0, clip_grad=clip, weight_decay=0.0, batch_size=24, warmup_epochs=0
        )
        method.calibrate = lambda batches: None
        run({"colour": method}, recipe)
        moved = [after.detach() - old for after, old in zip(method.parameters(), before, strict=True)]
        norms.append(torch.cat([value.flatten() for value in moved]).norm().item())
    assert norms[0] > 0.01
    assert norms[1] == pytest.approx(1e-3, rel=0.01)


def test_rates_follow_the_schedule_and_the_method() -> None:
    rates = []

    class Scaled(Noisy):
        def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
            return [
                {"params": list(self.body.parameters()), "weight_decay": 0.0, "lr_scale": 0.0},
                {"params": list(self.classifier.parameters()), "weight_decay": weight_decay, "lr_scale": 2.0},
            ]

    method = Scaled(3)
    before = [value.clone() for value in method.body.parameters()]
    fitted = run({"colour": method}, tiny_recipe(schedule="step", step_epochs=1, warmup_epochs=0))
    rates = [record.lr for record in fitted.history]
    assert rates == pytest.approx([0.01, 0.001, 0.0001])
    assert all(torch.equal(old, new) for old, new in zip(before, method.body.parameters(), strict=True))
