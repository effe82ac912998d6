"""A comparison on tiny pictures, its table and its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snow.data import open_dataset
from snow.errors import SnowError
from snow.experiments.compare import Comparison, columns, markdown, rows, run_comparison
from snow.experiments.plots.comparison import draw_comparison, spread_out, wrap_label
from snow.methods.variant import Variant
from snow.source import Source
from snow.training import Recipe, Runtime

RECIPE = Recipe(epochs=2, batch_size=6, augment="none", precision="32")


@pytest.fixture
def work(resnet: Source, write_folder: Callable[..., Path], tmp_path: Path) -> Comparison:
    dataset = open_dataset(write_folder(tmp_path / "pictures"), seed=0)
    methods = Variant.parse("fo,snow:keep=0.5")
    return Comparison(
        resnet,
        dataset,
        RECIPE,
        methods,
        rates=(1e-4, 1e-2),
        seeds=(0,),
        held_out=0.4,
        costs=False,
        runtime=Runtime(workers=0),
    )


def test_each_method_takes_the_rate_that_is_best_on_held_out_pictures(work: Comparison) -> None:
    results = run_comparison(work)
    assert list(results["methods"]) == ["fo", "snow:keep=0.5"]
    for entry in results["methods"].values():
        assert set(entry["tuning"]) == {"0.0001", "0.01"}
        assert entry["tuning"][f"{entry['lr']:g}"] == max(entry["tuning"].values())
        assert entry["runs"]["0"]["images"] == len(work.dataset.test)
        assert entry["top1"] == entry["runs"]["0"]["top1"]
    assert results["methods"]["fo"]["learned_parameters"] < results["methods"]["snow:keep=0.5"]["learned_parameters"]


def test_a_comparison_goes_on_where_it_was_stopped(work: Comparison, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    first = run_comparison(replace(work, methods=Variant.parse("fo")), out=out)
    stages: list[str] = []

    def listeners(stage: str) -> tuple[()]:
        stages.append(stage)
        return ()

    both = run_comparison(work, out=out, listeners=listeners)
    assert both["methods"]["fo"] == first["methods"]["fo"]
    assert all(name in " ".join(stages) for name in ("rates", "seed 0"))
    run_comparison(work, out=out, listeners=lambda stage: pytest.fail(f"{stage} is done again"))
    with pytest.raises(SnowError, match="recipe differ"):
        run_comparison(replace(work, recipe=replace(RECIPE, epochs=3)), out=out)


def test_a_single_rate_needs_no_tuning(work: Comparison) -> None:
    entry = run_comparison(replace(work, methods=Variant.parse("fo"), rates=(0.005,)))["methods"]["fo"]
    assert entry["lr"] == 0.005
    assert entry["tuning"] == {"0.005": None}


def test_validation_is_kept_for_each_epoch(work: Comparison) -> None:
    one = replace(work, methods=Variant.parse("fo"), rates=(0.005,), recipe=replace(RECIPE, validation=0.25))
    assert len(run_comparison(one)["methods"]["fo"]["runs"]["0"]["validation"]) == RECIPE.epochs
    plain = run_comparison(replace(one, recipe=RECIPE))
    assert "validation" not in plain["methods"]["fo"]["runs"]["0"]


def _results() -> dict[str, Any]:
    entry = {
        "top1": 0.5,
        "top5": 1.0,
        "lr": 0.001,
        "images_per_second": 10.0,
        "peak_memory_bytes": 10**8,
        "learned_parameters": 1234,
        "artifact_bytes": 5_000_000,
        "runs": {"0": {}},
    }
    return {
        "command": "snow compare pictures",
        "date": "2026-01-01",
        "versions": {"torch": "2"},
        "hardware": {"cpu": "some", "cores": 2, "gpu": None},
        "source": {"architecture": "timm/x", "weights": "random", "preprocessing": {"image_size": 64}},
        "recipe": {"epochs": 1, "batch_size": 2, "precision": "bf16"},
        "methods": {"fo": entry, "snow": {**entry, "top1_std": 0.01}, "unfinished": {}},
    }


def test_the_table_has_a_row_for_each_finished_method() -> None:
    table = rows(_results())
    assert [row[0] for row in table] == ["fo", "snow"]
    assert table[1][1] == "50.0 ± 1.0"
    text = markdown(_results())
    assert all(column in text for column in columns(_results()))
    assert "`snow compare pictures`" in text


def test_the_picture_is_a_picture(tmp_path: Path) -> None:
    draw_comparison(_results(), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SnowError, match="nothing to draw"):
        draw_comparison({**_results(), "methods": {}}, tmp_path / "none.png")
    with pytest.raises(SnowError, match=r"none.doc has no image format: end it in .png, .svg or .pdf"):
        draw_comparison(_results(), tmp_path / "none.doc")


def test_the_picture_has_the_figure_of_other_kinds(tmp_path: Path) -> None:
    methods = {"fo": {**_results()["methods"]["fo"], "mae": 12.5, "mae_std": 0.5}}
    draw_comparison({"kind": "number", "methods": methods}, tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert "MAE" in drawn
    assert "top-1" not in drawn


def test_the_picture_names_every_measured_method(tmp_path: Path) -> None:
    entry = _results()["methods"]["fo"]
    methods = {f"snow:keep=0.{index}:pooling.slots=index:dropout=0": entry for index in range(12)}
    draw_comparison({"methods": methods}, tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert all(f"snow:keep=0.{index}" in drawn for index in range(12))


def test_names_are_spread_out_without_an_overlap() -> None:
    assert spread_out([0.2, 0.5, 0.8], [0.1] * 3) == [0.2, 0.5, 0.8]
    crowded = spread_out([0.01, 0.9, 0.9, 0.9, 0.95], [0.1, 0.1, 0.2, 0.1, 0.1])
    assert crowded == pytest.approx([0.05, 0.55, 0.7, 0.85, 0.95])


def test_long_labels_are_broken_between_options() -> None:
    assert wrap_label("snow:keep=0.5") == "snow:keep=0.5"
    label = "snow:pooling.slots=index:pooling.init=ones:keep=0.5"
    assert wrap_label(label).split("\n") == ["snow:pooling.slots=index", ":pooling.init=ones:keep=0.5"]
    assert wrap_label(label).replace("\n", "") == label


@pytest.mark.parametrize(("label", "told"), [("magic", "no method 'magic'"), ("snow:keep", "is not OPTION=VALUE")])
def test_a_wrong_label_is_refused(label: str, told: str) -> None:
    with pytest.raises(SnowError, match=told):
        Variant(label)


def test_options_are_json_values_in_groups() -> None:
    variant = Variant("snow:keep=0.25:pooling.slots=index:pooling.rescale=false")
    assert variant.method == "snow"
    assert variant.config == {"keep": 0.25, "pooling": {"slots": "index", "rescale": False}}
