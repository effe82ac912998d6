"""How pictures are prepared for a model of transformers: as its own processor says, and does."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from source.tiny_transformers import silent, write_config

from snow.source.model_folder import ModelFolder

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"size": 224}, {"image_size": 224, "resize": "squash", "crop_pct": 1.0}),
        ({"size": {"height": 96, "width": 96}}, {"image_size": 96, "resize": "squash"}),
        ({"size": {"shortest_edge": 96}}, {"image_size": 96, "resize": "crop", "crop_pct": 1.0}),
        (
            {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True},
            {"image_size": 224, "resize": "crop", "crop_pct": 0.875},
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, {"image_size": 224, "crop_pct": 0.875, "resize": "crop"}),
        ({"size": {"shortest_edge": 384}, "crop_pct": 1.0}, {"image_size": 384, "resize": "squash"}),
        ({"resample": 2}, {"interpolation": "bilinear", "image_size": 32}),
        ({"resample": 1}, {"interpolation": "bicubic"}),
        ({"do_normalize": False, "size": 64}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}, {"mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0, 3.0)}),
        ({"do_normalize": False, "do_rescale": False}, {"std": (1 / 255,) * 3}),
        ({}, {"image_size": 32, "mean": (0.485, 0.456, 0.406), "crop_pct": 0.875}),
    ],
)
def test_pictures_are_prepared_as_the_processor_says(processor: Any, expected: Any, tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", {"model_type": "vit"})
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    found = asdict(ModelFolder(str(folder)).preprocessing(32))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("processor", "options"),
    [
        ("ViTImageProcessor", {"size": {"height": 64, "width": 64}}),
        ("BitImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}),
        ("EfficientNetImageProcessor", {"size": {"height": 64, "width": 64}}),
        ("EfficientNetImageProcessor", {"size": {"height": 64, "width": 64}, "rescale_offset": True}),
        ("ViTImageProcessor", {"size": {"height": 64, "width": 64}, "rescale_factor": 1 / 127.5}),
    ],
)
def test_numbers_are_those_of_the_processor(processor: str, options: dict[str, Any], tmp_path: Path) -> None:
    """What the model sees of a picture that has its size already."""
    folder = write_config(tmp_path / "model", {"model_type": "vit"})
    with silent():
        prepare = getattr(transformers, processor)(**options)
        prepare.save_pretrained(folder)
        picture = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        expected = prepare(picture, return_tensors="pt")["pixel_values"]
    found = ModelFolder(str(folder)).preprocessing(64).normalize(picture[None])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
