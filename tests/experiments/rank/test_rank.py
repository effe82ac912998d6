"""Ranking sources: what is measured, what is chosen, and that it goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from snow.data import Pictures, Task
from snow.errors import SnowError
from snow.experiments.plots.sources import draw_sources
from snow.experiments.rank.rank import Ranking, limited, rank_sources, smaller_sizes
from snow.experiments.rank.table import choose, choose_size, rank_correlation, table_rows
from snow.source import Source

COLOURS = Task("colours", ("blue", "green", "red"))


def entry(source: str, size: int, accuracy: float, ms: float, **more: Any) -> dict[str, Any]:
    figures = {"source": source, "image_size": size, "accuracy": accuracy, "probe_accuracy": accuracy, "left_out": 100}
    speeds = {"seconds_per_picture": ms / 1000, "images_per_second": 1000 / ms, "memory_bytes": 10**8}
    return {**figures, **speeds, "loss": 1 - accuracy, "parameters": 10, **more}


@pytest.fixture(scope="module")
def pictures(draw: Callable[..., tuple[Tensor, Tensor]]) -> Pictures:
    images, labels = draw(18)
    return Pictures([partial(Image.fromarray, image.permute(1, 2, 0).numpy()) for image in images], labels[:, None])


def rank(pictures: Pictures, names: tuple[str, ...], make: Callable[..., Source], **options: Any) -> dict[str, Any]:
    def opened(name: str, size: int | None) -> Source:
        if name == "broken":
            raise SnowError("it is broken")
        return make(name, image_size=size or 64)

    out, sizes = options.pop("out", None), options.pop("sizes", (None,))
    ranking = Ranking(pictures, COLOURS, names, sizes, **options)
    return rank_sources(ranking, out, opened, seconds=0.0)["sources"]


def test_colours_are_told_apart_by_any_source(pictures: Pictures, make_source: Callable[..., Source]) -> None:
    found = rank(pictures, ("test_resnet", "test_vit", "broken"), make_source)
    assert list(found) == ["test_resnet@64", "test_vit@64", "broken@own"]
    for name in ("test_resnet@64", "test_vit@64"):
        assert found[name]["accuracy"] > 0.9
        assert found[name]["left_out"] == found[name]["pictures"] == 18
        assert found[name]["images_per_second"] > 0
    assert found["test_vit@64"]["kind"] == "tokens"
    assert found["broken@own"] == {"source": "broken", "failed": "it is broken"}
    assert len(table_rows(found)) == 3


def test_it_goes_on_where_it_was_stopped(
    pictures: Pictures, make_source: Callable[..., Source], tmp_path: Path
) -> None:
    opened: list[str] = []

    def make(name: str, **options: Any) -> Source:
        opened.append(name)
        return make_source(name, **options)

    out = tmp_path / "rank.json"
    first = rank(pictures, ("test_resnet",), make, out=out)
    both = rank(pictures, ("test_resnet", "test_vit"), make, out=out)
    assert opened == ["test_resnet", "test_vit"]
    assert both["test_resnet@64"] == first["test_resnet@64"]
    with pytest.raises(SnowError, match="holds other results: sample differ"):
        rank(pictures, ("test_resnet",), make, out=out, sample=9)


def test_auto_measures_three_sizes(pictures: Pictures, make_source: Callable[..., Source]) -> None:
    assert [smaller_sizes(size) for size in (224, 240, 64, 32)] == [[160, 128], [192, 128], [32], []]
    found = rank(pictures, ("test_resnet",), make_source, sizes="auto")
    assert [value["image_size"] for value in found.values()] == [64, 32]


def test_a_sample_has_all_classes_and_only_pictures_that_can_be_left_out() -> None:
    labels = torch.tensor([0] * 50 + [1] * 3 + [2] + [-1] * 5)
    ranking = Ranking(Pictures([torch.zeros(3, 8, 8)] * 59, labels[:, None]), COLOURS, ("x",), sample=8)
    drawn = ranking.drawn()
    assert len(set(drawn)) == 8
    assert torch.bincount(labels[drawn]).tolist() == [5, 3]


def test_limits_and_choice() -> None:
    entries = {
        "a": entry("a", 224, 0.95, 40.0),
        "b": entry("b", 224, 0.94, 10.0),
        "c": entry("c", 224, 0.60, 1.0, memory_bytes=10**6),
        "d": {"source": "d", "failed": "no"},
    }
    assert limited(entries, None, None) == ["a", "b", "c"]
    assert limited(entries, 0.02, None) == ["b", "c"]
    assert limited(entries, None, 10**7) == ["c"]
    assert choose(entries)[0] == "a"
    assert "b at 224 px is 4.0 times as fast, and within the error of 2.2% with 94.0%" in choose(entries)[1]
    choice, reason = choose(entries, 0.02, 10**9)
    assert choice == "b"
    assert reason.startswith("b at 224 px knows most about these pictures within 20 ms a picture and 1000 MB: 94.0%")
    assert reason.endswith("; next is c at 224 px with 60.0%.")
    assert choose(entries, 1e-6) == (
        None,
        "No source answers within 0.001 ms a picture: raise the limit, or name smaller sources or sizes.",
    )


def test_the_smallest_size_that_is_as_good_is_chosen() -> None:
    sizes = {str(size): entry("a", size, accuracy, 10) for size, accuracy in ((224, 0.95), (160, 0.94), (128, 0.7))}
    assert choose_size(sizes) == (
        160,
        "160 px is the smallest within the error of 2.2% (70.0% at 128 px, 94.0% at 160 px, 95.0% at 224 px)",
    )


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == 1
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == -1
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)
    assert rank_correlation([1, 1], [1, 2]) == 0


def test_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    entries = {"a@224": entry("a", 224, 0.95, 40.0), "a@128": entry("a", 128, 0.9, 10.0)}
    draw_sources(entries, "a@224", tmp_path / "sources.png")
    assert (tmp_path / "sources.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SnowError, match="every source failed"):
        draw_sources({"a": {"source": "a", "failed": "no"}}, None, tmp_path / "none.png")


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1, 0, 1], (), "no source is named"),
        ([0, 1, 2, -1], ("x",), "two classes need two pictures each"),
    ],
)
def test_what_cannot_be_ranked_is_one_line(labels: list[int], names: tuple[str, ...], message: str) -> None:
    pictures = Pictures([torch.zeros(3, 8, 8)] * 4, torch.tensor(labels)[:, None])
    with pytest.raises(SnowError, match=message):
        Ranking(pictures, COLOURS, names)
