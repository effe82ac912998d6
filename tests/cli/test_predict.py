"""`snow predict`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from snow.data import decode, eval_transform
from snow.hub import Hub
from snow.inference import SOURCE_HEAD

Run = Callable[..., Any]


def test_it_names_classes_with_probabilities_most_likely_first(run: Run, learned: Path, colours: Path) -> None:
    path = colours / "test" / "red" / "11.png"
    result = run("predict", learned, path, "--json")
    assert (result.code, result.err) == (0, "")
    (entry,) = result.json
    assert entry["image"] == str(path)
    assert entry["tasks"]["colours"]["kind"] == "class"
    answer = entry["tasks"]["colours"]["classes"]
    probabilities = [one["probability"] for one in answer]
    assert answer[0]["class"] == "red"
    assert {one["class"] for one in answer} == {"blue", "green", "red"}
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)


def test_a_folder_means_the_pictures_in_it(run: Run, learned: Path, colours: Path) -> None:
    result = run("predict", learned, colours / "test", "--top-k", "1", "--json")
    right = [Path(one["image"]).parent.name == one["tasks"]["colours"]["classes"][0]["class"] for one in result.json]
    assert len(right) == 12
    assert sum(right) > 9
    assert all(len(one["tasks"]["colours"]["classes"]) == 1 for one in result.json)


def test_a_bad_picture_is_named_and_the_others_are_answered(
    run: Run, learned: Path, colours: Path, tmp_path: Path
) -> None:
    good = colours / "test" / "red" / "11.png"
    text, empty = tmp_path / "text.jpg", tmp_path / "empty"
    text.write_text("no picture")
    empty.mkdir()
    result = run("predict", learned, text, good, tmp_path / "missing.png", empty, "--json")
    assert result.code == 2
    assert [entry["image"] for entry in result.json] == [str(good)]
    assert result.err.splitlines() == [
        f"error: {text}: not a JPEG, PNG, WebP, BMP, GIF or TIFF picture",
        f"error: {tmp_path / 'missing.png'}: does not exist",
        f"error: {empty}: is a folder, not a picture",
    ]


def test_the_sources_own_head_answers_in_the_same_list(run: Run, learned: Path, colours: Path) -> None:
    path = colours / "test" / "red" / "11.png"
    (entry,) = run("predict", learned, path, "--source-head", "--top-k", "1", "--json").json
    source = Hub.open(learned).source
    expected = source(eval_transform(source.preprocessing)(decode(path))[None]).logits.argmax().item()
    assert list(entry["tasks"]) == ["colours", SOURCE_HEAD]
    assert entry["tasks"][SOURCE_HEAD]["classes"][0]["class"] == str(expected)


def test_more_pictures_than_a_batch_come_in_order(run: Run, learned: Path, colours: Path) -> None:
    paths = [*sorted(colours.rglob("*.png"))] * 2
    result = run("predict", learned, *paths, "--json")
    assert [entry["image"] for entry in result.json] == list(map(str, paths))
    hub = Hub.open(learned)
    torch.testing.assert_close(
        [entry["tasks"]["colours"]["classes"][0]["probability"] for entry in result.json],
        [answer["colours"].probabilities[0] for answer in hub.predict(paths)],
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_table_has_picture_task_class_and_probability(run: Run, learned: Path, colours: Path) -> None:
    shown = run("predict", learned, colours / "test" / "red" / "11.png", "--tasks", "colours").out
    assert all(word in shown for word in ("picture", "colours", "red", "probability"))


@pytest.fixture
def damaged(learned: Path, tmp_path: Path) -> Path:
    """A hub with a task `colours` that answers, and a task `bad` that cannot."""
    hub = tmp_path / "damaged"
    shutil.copytree(learned, hub)
    shutil.copytree(hub / "tasks" / "colours", hub / "tasks" / "bad")
    (hub / "tasks" / "bad" / "config.json").write_text("{")
    return hub


@pytest.mark.parametrize(("options", "code", "level"), [((), 0, "warning"), (("--tasks", "bad,colours"), 2, "error")])
def test_a_task_that_fails_has_its_error_in_place_of_a_prediction(
    run: Run, damaged: Path, colours: Path, options: tuple[str, ...], code: int, level: str
) -> None:
    picture = colours / "test" / "red" / "11.png"
    result = run("predict", damaged, picture, *options, "--json")
    assert result.code == code
    tasks = result.json[0]["tasks"]
    assert tasks["colours"]["classes"][0]["class"] == "red"
    assert tasks["bad"].keys() == {"error"}
    assert "config.json cannot be read" in tasks["bad"]["error"]
    assert result.err.splitlines() == [f"{level}: task bad has no prediction: {tasks['bad']['error']}"]
    assert "error: " in run("predict", damaged, picture, *options).out


def test_an_unknown_task_is_refused(run: Run, learned: Path, colours: Path) -> None:
    result = run("predict", learned, colours / "test" / "red" / "11.png", "--tasks", "colours,never")
    assert (result.code, result.out) == (2, "")
    assert "has no task 'never'" in result.err
