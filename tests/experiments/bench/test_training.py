"""A bench on a tiny CNN: its rows, its ratios, its file."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from snow.data import Pictures, open_dataset
from snow.errors import SnowError
from snow.experiments.bench.pipeline import Pipeline, write_pictures
from snow.experiments.bench.rows import Sample
from snow.experiments.bench.training import PHASES, TrainingBench, measure_training
from snow.experiments.step_cost import BenchConditions, BenchSetup, StepCost, Stopwatch
from snow.methods.variant import Variant
from snow.training import Recipe, Runtime

RECIPE = Recipe(batch_size=6, precision="32")
RUNTIME = Runtime(workers=0, accelerator="cpu")
CONDITIONS = BenchConditions("test_resnet", 64, 3, RECIPE, RUNTIME, steps=1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, 12, classes=3)
    return open_dataset(folder, test_fraction=0.25).train


def test_generated_pictures_are_classes_of_whole_pictures(pictures: Pictures) -> None:
    assert sorted(pictures.labels.flatten().tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(image.shape == (3, 375, 500) for image, _ in pictures)


@pytest.mark.usefixtures("in_this_process")
def test_rows_ratios_and_file(pictures: Pictures, tmp_path: Path) -> None:
    told: list[str] = []
    out = tmp_path / "results.json"
    work = TrainingBench(CONDITIONS, Variant.parse("ft,snow:keep=0.5"), pictures, rounds=1)
    results = measure_training(work, out, told.append)
    assert out.exists()
    assert (results["rounds"], list(results["methods"])) == (1, ["ft", "snow:keep=0.5"])
    assert [line.rsplit(": ", 1)[1] for line in told] == [
        "ft …",
        "snow:keep=0.5 …",
        "source …",
        "delta …",
        "decoding …",
    ]
    ft, snow = results["methods"].values()
    assert ft["over_ft"] == ft["memory_over_ft"] == 1
    assert snow["over_ft"] == snow["images_per_second"] / ft["images_per_second"]
    assert set(snow["milliseconds_per_image"]) == set(PHASES) - {"decode", "augment", "cache"}
    assert min(snow["milliseconds_per_image"].values()) > 0
    assert set(results["limits"]["decoding"]["milliseconds_per_image"]) == {"decode", "augment"}
    assert results["limits"]["source"]["images_per_second"] > 0
    other = TrainingBench(replace(CONDITIONS, recipe=replace(RECIPE, batch_size=5)), work.methods, pictures)
    with pytest.raises(SnowError, match="batch_size differ"):
        measure_training(other, out)


@pytest.mark.usefixtures("in_this_process")
def test_kept_features_are_a_row_of_their_own(pictures: Pictures) -> None:
    work = TrainingBench(CONDITIONS, Variant.parse("ft,snow"), pictures, rounds=1, cached=True)
    methods = measure_training(work)["methods"]
    assert list(methods) == ["ft", "snow", "snow+cache"]
    kept = methods["snow+cache"]
    assert kept["kept_bytes_per_image"] > 3 * 64 * 64
    assert kept["filled_images_per_second"] > 0
    assert set(kept["milliseconds_per_image"]) == {"cache", "gather", "forward", "backward", "optimizer"}
    assert kept["over_ft"] == kept["images_per_second"] / methods["ft"]["images_per_second"]


def test_without_a_baseline_or_a_user_of_the_source_there_is_nothing_to_relate_to(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = Sample(StepCost(10.0, 5), 8.0, {"source": 0.1})
    monkeypatch.setattr("snow.process.subprocesses.in_subprocess", lambda name, call: cost)
    results = measure_training(TrainingBench(CONDITIONS, Variant.parse("fo"), pictures, rounds=2))
    assert "over_ft" not in results["methods"]["fo"]
    assert results["methods"]["fo"]["over_source"] == 1
    alone = measure_training(TrainingBench(CONDITIONS, Variant.parse("ft"), pictures, rounds=1))
    assert list(alone["limits"]) == ["decoding"]


def test_an_empty_bench_is_refused(pictures: Pictures) -> None:
    with pytest.raises(SnowError, match="at least one method"):
        TrainingBench(CONDITIONS, (), pictures)
    with pytest.raises(SnowError, match="at least one round"):
        TrainingBench(CONDITIONS, Variant.parse("fo"), pictures, rounds=0)


def test_a_pipeline_goes_on_over_epochs(pictures: Pictures) -> None:
    setup = BenchSetup(BenchConditions("test_resnet", 64, 3, RECIPE, RUNTIME, steps=5))
    seen: list[int] = []
    assert Pipeline(setup, pictures).images_per_second(lambda images, labels: seen.append(len(images))) > 0
    assert len(seen) == 7
    assert sum(seen[:2]) == len(pictures)


def test_a_stopwatch_tells_phases_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(now)))  # each look takes a second
    watch = Stopwatch(lambda: None)
    layer = nn.Identity()
    watch.follow(layer, "inner")
    for _ in range(2):
        with watch("outer"):
            layer(torch.zeros(1))
    assert watch.seconds == {"inner": 2, "outer": 6}


def test_what_is_measured_on_the_stand_has_learned(pictures: Pictures) -> None:
    setup = BenchSetup(CONDITIONS)
    learner = setup.learner(Variant("fo").build)
    before: Any = learner.method.classifier.weight.clone()
    setup.learn(learner, setup.observe(learner, setup.images), setup.labels)
    assert not torch.equal(before, learner.method.classifier.weight)
