"""`--resize`: the same in training, evaluation, prediction, the service and the exported file, kept with the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from snow.data import decode, eval_transform
from snow.hub import Hub
from snow.serving.decoding import decode_picture

TINY = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")
QUICK = ("--epochs", "12", "--batch-size", "8", "--workers", "0", "--lr", "0.01", "--augment", "none")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 4:1 that are gray but for a mark at one end, red or green."""
    root, rng = tmp_path_factory.mktemp("wide"), np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 6)):
        for name, colour in (("good", (0, 200, 0)), ("bad", (200, 0, 0))):
            for number in range(count):
                pixels = rng.integers(100, 140, (32, 128, 3), dtype=np.uint8)
                pixels[:, slice(0, 24) if number % 2 else slice(-24, None)] = colour
                path = root / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_a_mark_at_the_end_is_learned_and_every_door_prepares_alike(
    resize: str, run: Callable[..., Any], wide: Path, tmp_path: Path
) -> None:
    hub = tmp_path / "hub"
    trained = run("train", wide, "--task", "edge", "--hub", hub, "--resize", resize, *TINY, *QUICK, "--json")
    assert trained.json["tasks"][0]["top1"] > 0.9
    assert json.loads((hub / "source.json").read_text())["preprocessing"]["resize"] == resize
    assert run("eval", hub, wide, "--task", "edge", "--json").json["top1"] > 0.9

    opened, path = Hub.open(hub), wide / "test" / "bad" / "0.png"
    transform = eval_transform(opened.source.preprocessing)
    prepared = transform(decode(path))
    assert torch.equal(decode_picture(path.read_bytes(), 0, transform, 10**6), prepared)
    expected = opened.logits(prepared[None])["edge"].softmax(1).max().item()
    (entry,) = run("predict", hub, path, "--json").json
    assert entry["tasks"]["edge"]["classes"][0] == {"class": "bad", "probability": pytest.approx(expected, abs=1e-4)}

    assert run("export", hub, tmp_path / "hub.onnx").code == 0
    kept = {one.key: one.value for one in onnx.load(tmp_path / "hub.onnx").metadata_props}
    assert json.loads(kept["snow.preprocessing"])["resize"] == resize


def test_a_hub_keeps_its_way(run: Callable[..., Any], refused: Callable[..., str], wide: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    assert run("hub", "init", hub, "--resize", "pad", *TINY).code == 0
    options = ("train", wide, "--task", "edge", "--hub", hub)
    assert "resized by pad, not crop: omit --resize" in refused(*options, "--resize", "crop")
    assert run(*options, *QUICK[:1], "1", *QUICK[2:]).code == 0
    assert run("hub", "verify", hub).code == 0
    plain, padded = tmp_path / "plain", json.loads((hub / "source.json").read_text())
    assert run("hub", "init", plain, "--resize", "crop", *TINY).code == 0
    described = json.loads((plain / "source.json").read_text())
    assert "resize" not in described["preprocessing"]
    assert described["fingerprint"] != padded["fingerprint"]


def test_wide_pictures_under_the_default_crop_are_counted_in_one_line(
    run: Callable[..., Any], wide: Path, colours: Path, tmp_path: Path
) -> None:
    quick = (*TINY, *QUICK[:1], "1", *QUICK[2:])
    train = ("train", wide, "--task", "edge", "--replace", *quick)
    lines = [line for line in run(*train, "--hub", tmp_path / "crop").err.splitlines() if "wider" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"warning: {wide}: 36 of 36 pictures are wider than 2:1")
    assert "--resize pad or squash shows them whole" in lines[0]
    assert "wider" not in run(*train, "--hub", tmp_path / "pad", "--resize", "pad").err
    assert "wider" not in run("train", colours, "--task", "a", "--hub", tmp_path / "crop", *quick).err
    comparison = ("compare", wide, "--methods", "fo", "--rates", "0.01", "--no-costs", *quick)
    assert "36 of 36" in run(*comparison).err
