"""Commands on a source of Hugging Face transformers, which is named by its folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from source.tiny_transformers import save_model, write_config

from snow.cli.app import main
from snow.experiments.rank.rank import open_named
from snow.hub import Hub
from snow.kinds import ClassPrediction

pytest.importorskip("transformers")

QUICK = ("--epochs", "2", "--batch-size", "8", "--workers", "0", "--lr", "0.01", "--augment", "none")

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "vit"
    save_model("vit", folder)
    return folder


@pytest.fixture(scope="module")
def hub(model: Path, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a task that was trained on it. Only to be read."""
    hub = tmp_path_factory.mktemp("vit") / "hub"
    options = ["--task", "colours", "--source", f"hf:{model}", "--start", "zero", *QUICK]
    assert main(["train", str(colours), "--hub", str(hub), *options]) == 0
    return hub


def test_it_answers(hub: Path, colours: Path, run: Run) -> None:
    measured = run("eval", hub, colours, "--task", "colours", "--json")
    assert measured.code == 0
    picture = next((colours / "test" / "red").iterdir())
    answers = run("predict", hub, picture, "--json").json[0]["tasks"]["colours"]["classes"]
    folded = Hub.open(hub, engine="folded").predict(picture, ["colours"])[0]["colours"]
    assert isinstance(folded, ClassPrediction)
    assert [each["class"] for each in answers] == list(folded.classes)
    assert [each["probability"] for each in answers] == pytest.approx(folded.probabilities, abs=1e-4)


def test_show_names_the_licence_and_the_card(hub: Path, model: Path, run: Run) -> None:
    shown = run("hub", "show", hub).out
    assert f"hf:{model}" in shown
    assert "mit" in shown
    assert str(model / "README.md") in shown
    assert run("hub", "show", hub, "--json").json["source"]["origin"]["licence"] == "mit"


def test_the_same_source_may_be_named_again(
    hub: Path, model: Path, colours: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copytree(hub, tmp_path / "hub"))
    monkeypatch.chdir(model.parent)
    again = ("train", colours, "--hub", own, "--task", "more", "--method", "fo", *QUICK)
    assert run(*again, "--source", "hf:vit").code == 0
    refused = run(*again, "--replace", "--source", "hf:tiny/other")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "has the source hf:" in refused.err


def test_taps_and_ranks(model: Path, run: Run) -> None:
    assert [tap["channels"] for tap in run("taps", f"hf:{model}", "--json").json] == [48, 48]
    assert open_named(f"hf:{model}", 32).preprocessing.image_size == 32
    assert open_named(f"hf:{model}={model}/model.safetensors", None).weights == "model.safetensors"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, "is BertModel: a source is an image classifier"),
        ({"model_type": "detr", "architectures": ["DetrForObjectDetection"]}, "is DetrForObjectDetection: a source is"),
        ({"model_type": "vit", "num_channels": 5}, "reads pictures of 5 channels"),
        (None, "has no config.json"),
    ],
)
def test_what_is_no_source_is_refused(
    config: dict[str, object] | None, told: str, colours: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir() if config is None else write_config(folder, config)
    assert told in refused("taps", f"hf:{folder}")
    assert told in refused("train", colours, "--task", "one", "--hub", tmp_path / "hub", "--source", f"hf:{folder}")
    assert told in refused("sources", "rank", colours, "--sources", f"hf:{folder}")
