"""Training on what was kept is training on what the source would have said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Blind, same_tensors, tiny_dataset, tiny_recipe, tiny_runtime, tiny_source
from torch import Tensor

from snow.errors import SnowError
from snow.methods import METHODS, Method
from snow.source import Features, Source
from snow.training import Recipe
from snow.training.feature_cache import FeatureCache
from snow.training.fit import fit
from snow.training.history import Fitted
from snow.training.listeners import Listener
from snow.training.row_store import RowStore

RECIPE = tiny_recipe(epochs=4, cache_views=2, cache_dtype="fp32", augment="mild")
SIZE = "50MB"


class CountingSource(Source):
    """Counts the pictures that it, or a copy, was shown."""

    shown = 0

    def forward(self, images: Tensor, taps: Any = None, final: bool = True) -> Features:
        CountingSource.shown += len(images)
        return super().forward(images, taps, final)


def counting() -> CountingSource:
    source = tiny_source()
    source.__class__ = CountingSource
    CountingSource.shown = 0
    return source


def learner(source: Source, name: str = "snow", seed: int = 0, **config: Any) -> Method:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return METHODS[name].build(source, 3, config or ({"keep": 0.5, "start": "zero"} if name == "snow" else None))


def run(recipe: Recipe = RECIPE, names: tuple[str, ...] = ("snow",), **options: Any) -> tuple[Fitted, int]:
    """What a run leaves, and how many pictures the source was shown."""
    source = counting()
    learners = {name: learner(source, name) for name in names}
    dataset = options.pop("dataset", None) or tiny_dataset()
    runtime = tiny_runtime(**{"cache": SIZE, **options.pop("runtime", {})})
    return fit(source, learners, dataset, recipe, runtime=runtime, **options), source.shown


def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that never has what is asked for: every pass is made."""
    monkeypatch.setattr(FeatureCache, "has", lambda cache, rows: False)


@pytest.mark.parametrize("names", [("snow",), ("snow", "fo"), ("fo",)])
def test_it_is_the_same_run_bit_by_bit_without_the_passes(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, few = run(names=names)
    forgetful(monkeypatch)
    online, many = run(names=names)
    for name in names:
        assert same_tensors(kept.learners[name], online.learners[name])
    assert [record.loss for record in kept.history] == [record.loss for record in online.history]
    assert kept.metrics == online.metrics
    blank, folding, calibration, test = 1, 2, 24, 12
    assert few == blank + folding + len(names) * calibration + 2 * 24 + test
    assert many == few + 2 * 24


def test_learners_with_other_choices_each_find_their_own_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(source: Source) -> dict[str, Method]:
        return {"a": learner(source, keep=0.5), "b": learner(source, seed=1, keep=0.25)}

    recipe = replace(RECIPE, calibration=6)
    kept = fit(tiny_source(), two(tiny_source()), tiny_dataset(), recipe, runtime=tiny_runtime(cache=SIZE))
    forgetful(monkeypatch)
    online = fit(tiny_source(), two(tiny_source()), tiny_dataset(), recipe, runtime=tiny_runtime(cache=SIZE))
    for name in ("a", "b"):
        assert same_tensors(kept.learners[name], online.learners[name])


def test_what_is_held_out_is_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, validation=0.25)
    kept, few = run(recipe)
    forgetful(monkeypatch)
    online, many = run(recipe)
    assert [record.validation for record in kept.history] == [record.validation for record in online.history]
    assert many == few + 2 * 18 + 3 * 6


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_narrower_types_come_close(dtype: str) -> None:
    exact, _ = run()
    rounded, _ = run(replace(RECIPE, cache_dtype=dtype))
    assert rounded.history[-1].loss == pytest.approx(exact.history[-1].loss, rel=0.05)
    assert not same_tensors(rounded.learners["snow"], exact.learners["snow"])


def test_methods_that_look_at_pictures_alone_have_nothing_kept() -> None:
    source = counting()
    fitted = fit(source, {"blind": Blind(3)}, tiny_dataset(), RECIPE, runtime=tiny_runtime(cache=SIZE))
    assert source.shown == 0
    assert fitted.metrics["blind"].images == 12


def test_a_folder_serves_another_run_and_is_refused_where_it_does_not_fit(tmp_path: Path) -> None:
    first, made = run(runtime={"cache_dir": tmp_path / "kept"})
    again, made_again = run(runtime={"cache_dir": tmp_path / "kept"})
    assert same_tensors(first.learners["snow"], again.learners["snow"])
    assert made_again == made - 2 * 24
    for change, told in (({"augment": "none"}, "augment"), ({"calibration": 3}, "channels"), ({"seed": 1}, "seed")):
        with pytest.raises(SnowError, match=f"holds features of another run .*{told}.* differ.*: remove it"):
            run(replace(RECIPE, **change), runtime={"cache_dir": tmp_path / "kept"})
    (tmp_path / "kept" / "cache.json").write_text("{")
    with pytest.raises(SnowError, match="cache.json: .*: remove it or name another folder"):
        run(runtime={"cache_dir": tmp_path / "kept"})


class Stop(Listener):
    """Ends a run after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step(self, report: Any) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("steps", [2, 5, 8, 10])
def test_a_run_that_was_stopped_goes_on_with_what_was_kept(steps: int, tmp_path: Path) -> None:
    whole, _ = run()
    runtime = {"cache_dir": tmp_path / "cache", "checkpoint_seconds": 0.0}
    options = {"checkpoint": tmp_path / "checkpoint.pt", "runtime": runtime}
    with pytest.raises(KeyboardInterrupt):
        run(listeners=[Stop(steps)], **options)
    rest, shown = run(resume=True, **options)
    assert same_tensors(rest.learners["snow"], whole.learners["snow"])
    assert shown < 1 + 4 * 24 + 12


def test_a_cache_that_is_lost_is_made_again(tmp_path: Path) -> None:
    whole, _ = run()
    options = {"checkpoint": tmp_path / "checkpoint.pt", "runtime": {"cache_dir": tmp_path / "cache"}}
    with pytest.raises(KeyboardInterrupt):
        run(listeners=[Stop(8)], **options)
    (tmp_path / "cache" / "there-0.npy").unlink()
    rest, _ = run(resume=True, **options)
    assert same_tensors(rest.learners["snow"], whole.learners["snow"])


@pytest.mark.slow
def test_two_processes_share_a_folder_and_one_in_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    source = tiny_source()  # a process cannot import a class of this module

    def on_two(**options: Any) -> None:
        runtime = tiny_runtime(devices=2, cache=SIZE, **options)
        fit(source, {"snow": learner(source)}, tiny_dataset(), RECIPE, runtime=runtime)

    on_two(cache_dir=tmp_path / "kept")
    there = [path.name for path in sorted((tmp_path / "kept").glob("there-*.npy"))]
    assert there == ["there-0.npy", "there-1.npy"]
    shelf = RowStore(tmp_path / "kept", 48, (tmp_path / "kept" / "rows.bin").stat().st_size // 48)
    assert shelf.has(torch.arange(48))
    with pytest.raises(SnowError, match="in memory cannot be shared by several processes: name a folder"):
        on_two()


def test_the_size_is_told_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Ear(Listener):
        def on_start(self, run: Any) -> None:
            told.extend(run.notes)

    run(listeners=[Ear()], runtime={"cache_dir": tmp_path / "cache"})
    [row] = json.loads((tmp_path / "cache" / "cache.json").read_text())["row"][:1]
    assert row["name"] == "(picture)"
    size = (tmp_path / "cache" / "rows.bin").stat().st_size
    assert told == [f"features of 48 views of pictures are kept in {tmp_path / 'cache'}: {size / 1000:.3g} KB"]
    with pytest.raises(SnowError, match="features of 48 views .* KB each, more than the 10 KB of the cache"):
        run(runtime={"cache": "10KB"})
    monkeypatch.setattr("snow.training.row_store._available_memory", lambda: 1000)
    with pytest.raises(SnowError, match="the features take .* and memory has 1 KB left"):
        run()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cache_views": 0}, "cache_views must be at least 1"),
        ({"cache_dtype": "fp8"}, "cache_dtype must be one of fp16, fp32, int8"),
        ({"calibration": 0}, "calibration must be more than zero where it decides the choice of channels"),
        ({"freeze_selection": False}, "a cache needs a frozen choice of channels"),
    ],
)
def test_recipes_that_cannot_be(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SnowError, match=told):
        run(replace(RECIPE, **change))


def test_the_selection_can_be_frozen_without_a_cache() -> None:
    """Then every epoch sees new views, and the channels stay those of the calibration."""
    fitted, _ = run(replace(RECIPE, freeze_selection=True), runtime={"cache": None})
    free, _ = run(RECIPE, runtime={"cache": None})
    cached, _ = run(RECIPE)
    masks = fitted.selection_history["snow"].masks
    assert all(torch.equal(mask[0], mask[-1]) for mask in masks.values())
    assert all(torch.equal(mask, cached.selection_history["snow"].masks[tap]) for tap, mask in masks.items())
    assert not same_tensors(fitted.learners["snow"], cached.learners["snow"]), "the cache has two views, not four"
    assert type(free.learners["snow"]) is type(fitted.learners["snow"])
    assert [record.loss for record in free.history] != [record.loss for record in fitted.history]


def test_views_take_turns_and_belong_to_pictures(make_views: Callable[[int], list[list[tuple[int, int]]]]) -> None:
    epochs = [dict(sum(make_views(epoch), [])) for epoch in range(4)]
    assert epochs[0] == epochs[2] != epochs[1] == epochs[3]
    assert list(epochs[0]) != list(epochs[2])


@pytest.fixture
def make_views() -> Callable[[int], list[list[tuple[int, int]]]]:
    from snow.training.loader import EpochSampler

    order = EpochSampler(10, 4, seed=0, views=2)

    def batches(epoch: int) -> list[list[tuple[int, int]]]:
        order.start(epoch)
        return list(order)

    return batches
