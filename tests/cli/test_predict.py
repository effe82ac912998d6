"""`snow predict`."""

from __future__ import annotations

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
    answer = entry["tasks"]["colours"]
    probabilities = [one["probability"] for one in answer]
    assert answer[0]["class"] == "red"
    assert {one["class"] for one in answer} == {"blue", "green", "red"}
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)


def test_a_folder_means_the_pictures_in_it(run: Run, learned: Path, colours: Path) -> None:
    result = run("predict", learned, colours / "test", "--top-k", "1", "--json")
    right = [Path(one["image"]).parent.name == one["tasks"]["colours"][0]["class"] for one in result.json]
    assert len(right) == 12
    assert sum(right) > 9
    assert all(len(one["tasks"]["colours"]) == 1 for one in result.json)


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
    assert entry["tasks"][SOURCE_HEAD][0]["class"] == str(expected)


def test_more_pictures_than_a_batch_come_in_order(run: Run, learned: Path, colours: Path) -> None:
    paths = [*sorted(colours.rglob("*.png"))] * 2
    result = run("predict", learned, *paths, "--json")
    assert [entry["image"] for entry in result.json] == list(map(str, paths))
    hub = Hub.open(learned)
    torch.testing.assert_close(
        [entry["tasks"]["colours"][0]["probability"] for entry in result.json],
        [answer["colours"].probabilities[0] for answer in hub.predict(paths)],
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_table_has_picture_task_class_and_probability(run: Run, learned: Path, colours: Path) -> None:
    shown = run("predict", learned, colours / "test" / "red" / "11.png", "--tasks", "colours").out
    assert all(word in shown for word in ("picture", "colours", "red", "probability"))
