"""How far tasks take the same channels, against counting by hand."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from math import comb
from pathlib import Path
from statistics import fmean

import pytest
import torch

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.hub.overlap import Overlaps, Selections, chance, overlaps
from snow.methods import METHODS
from snow.source import FINAL, Source


@pytest.fixture
def hub(resnet: Source, tmp_path: Path) -> Hub:
    """`a` and `b` choose at random, `wide` twice as many, `plain` nothing."""
    hub = Hub.create(tmp_path / "hub", resnet)
    for seed, (name, method, config) in enumerate(
        [("a", "snow", {}), ("b", "snow", {}), ("wide", "snow", {"keep": 0.25}), ("plain", "fo", {})]
    ):
        torch.manual_seed(seed)
        built = METHODS[method].build(resnet, 2, {**config, **({"pooling": {"init": "normal"}} if seed < 3 else {})})
        hub.add(Artifact(name, ("x", "y"), built.export_form(), resnet.description()))
    return hub


@pytest.mark.parametrize(("channels", "first", "second"), [(5, 2, 2), (6, 1, 4), (6, 5, 4), (4, 4, 4), (7, 7, 2)])
def test_chance_is_the_mean_over_all_choices(channels: int, first: int, second: int) -> None:
    mine = set(range(first))
    every = [len(mine & set(other)) / len(mine | set(other)) for other in combinations(range(channels), second)]
    assert chance_of(channels, first, second) == pytest.approx(fmean(every))
    assert chance_of(channels, second, first) == pytest.approx(fmean(every))


def chance_of(channels: int, first: int, second: int) -> float:
    return chance(channels, torch.tensor([first]), torch.tensor([second])).item()


def exact_chance(channels: int, first: int, second: int) -> float:
    """The sum over all intersections, in whole numbers."""
    least, most = max(1, first + second - channels), min(first, second)
    terms = (
        Fraction(comb(first, both) * comb(channels - first, second - both) * both, first + second - both)
        for both in range(least, most + 1)
    )
    return float(sum(terms, Fraction()) / comb(channels, second))


def test_chance_of_wide_maps_is_exact_for_any_numbers() -> None:
    assert chance_of(2048, 1536, 1536) == pytest.approx(0.6, abs=0.001)
    draw = random.Random(0)
    for channels in (1, 2, 40, 300, 1152):
        counts = [0, 1, channels, *(draw.randrange(channels + 1) for _ in range(5))]
        table = chance(channels, torch.tensor(counts), torch.tensor(counts))
        for row, first in enumerate(counts):
            for column, second in enumerate(counts):
                expected = exact_chance(channels, first, second)
                assert table[row, column].item() == pytest.approx(expected, rel=1e-9), (channels, first, second)


def test_many_tasks_with_different_numbers_of_channels_are_compared_in_time() -> None:
    masks = {f"t{number}": {"tap": torch.arange(1152) < 20 + number} for number in range(300)}
    started = time.process_time()  # of this process alone, however busy the machine is
    overlaps = Overlaps(Selections(masks))
    assert time.process_time() - started < 5
    assert overlaps.taps["tap"].chance[7, 250].item() == pytest.approx(exact_chance(1152, 27, 270), rel=1e-9)


def test_each_pair_at_each_tap(hub: Hub) -> None:
    results = overlaps(hub).to_dict()
    assert results["tasks"] == ["a", "b", "wide"]
    assert [pair["tasks"] for pair in results["pairs"]] == [["a", "b"], ["a", "wide"], ["b", "wide"]]
    for pair in results["pairs"]:
        first, second = (hub.task(name).method.selected_mask() for name in pair["tasks"])
        assert set(pair["taps"]) == {*hub.task("a").method.taps, FINAL}
        for tap, entry in pair["taps"].items():
            mine, theirs = (set(taken[tap].nonzero().flatten().tolist()) for taken in (first, second))
            assert (entry["both"], entry["either"]) == (len(mine & theirs), len(mine | theirs))
            assert entry["iou"] == entry["both"] / entry["either"]
            assert entry["chance"] == pytest.approx(exact_chance(len(first[tap]), len(mine), len(theirs)))
        assert pair["iou"] == pytest.approx(fmean(entry["iou"] for entry in pair["taps"].values()))


def test_a_task_and_its_copy_overlap_wholly(hub: Hub) -> None:
    twin = hub.task("a")
    hub.add(Artifact("twin", twin.classes, twin.method, twin.source))
    (pair,) = overlaps(hub, ["twin", "a"]).to_dict()["pairs"]
    assert pair["iou"] == 1.0
    assert {entry["iou"] for entry in pair["taps"].values()} == {1.0}
    assert pair["chance"] < 0.5


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        (["a"], "has a$"),
        (["a", "a"], "has a$"),
        (["a", "plain"], "plain selects no channels: its method is fo"),
        (["a", "c"], "no task 'c'"),
    ],
)
def test_what_cannot_overlap_is_refused(hub: Hub, tasks: list[str], told: str) -> None:
    with pytest.raises(SnowError, match=told):
        overlaps(hub, tasks)


def test_tasks_without_a_map_in_common_are_refused(make_source: Callable[..., Source], tmp_path: Path) -> None:
    source = make_source()
    hub = Hub.create(tmp_path / "hub", source)

    class Other:
        def __init__(self, tap: str) -> None:
            self.tap = tap

        def selected_mask(self) -> dict[str, torch.Tensor]:
            return {self.tap: torch.ones(3, dtype=torch.bool)}

    for name in ("a", "b"):
        artifact = Artifact(name, ("x", "y"), METHODS["fo"].build(source, 2), source.description())
        hub.add(artifact)
        hub.task(name).method.selected_mask = Other(name).selected_mask
    with pytest.raises(SnowError, match="have no tap in common"):
        overlaps(hub)
