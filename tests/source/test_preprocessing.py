"""Preprocessing: checked when made, exact when used, the same after a round trip through JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from snow.errors import SnowError
from snow.source import Preprocessing
from snow.source.preprocessing import INTERPOLATIONS

MEAN, STD = (0.1, 0.5, 0.9), (0.2, 0.5, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 15}, "at least 16"),
        ({"image_size": 0}, "at least 16"),
        ({"image_size": 100_000}, "at most 8192"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"crop_pct": 1.01}, "crop_pct"),
        ({"interpolation": "lanczos"}, "bicubic"),
        ({"std": (0.2, 0.2, 0.0)}, "std must be positive"),
        ({"mean": (0.5,)}, "three values"),
        ({"std": (0.2, 0.2)}, "three values"),
    ],
)
def test_impossible_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SnowError, match=message):
        Preprocessing(**options)


def test_whole_numbers_and_pictures_on_a_unit_scale_mean_the_same() -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    preprocessing = Preprocessing(16, MEAN, STD)
    torch.testing.assert_close(preprocessing.normalize(images), preprocessing.normalize(images.float() / 255))


def test_normalize_uses_each_channel_s_own_mean_and_std() -> None:
    black = Preprocessing(16, MEAN, STD).normalize(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    white = Preprocessing(16, MEAN, STD).normalize(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        assert black[0, channel, 0, 0].item() == pytest.approx(-mean / std)
        assert white[0, channel, 0, 0].item() == pytest.approx((1 - mean) / std)


def test_normalize_leaves_its_input_alone_and_keeps_a_floating_type() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        images = torch.rand(1, 3, 4, 4, dtype=dtype)
        before = images.clone()
        assert Preprocessing().normalize(images).dtype == dtype
        assert torch.equal(images, before)
    images = torch.full((1, 3, 2, 2), 7, dtype=torch.uint8)
    Preprocessing().normalize(images)
    assert images.unique().tolist() == [7]


def test_resize_is_the_crop_s_inverse() -> None:
    assert Preprocessing(224, crop_pct=0.875).short_side == 256
    assert Preprocessing(224, crop_pct=1.0).short_side == 224


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_round_trip_through_json(interpolation: str) -> None:
    preprocessing = Preprocessing(96, MEAN, STD, interpolation, 0.9)
    values = json.loads(json.dumps(preprocessing.to_dict()))
    assert values == preprocessing.to_dict()
    assert Preprocessing.from_dict(values) == preprocessing


def test_unknown_keys_name_themselves() -> None:
    with pytest.raises(SnowError, match="unknown preprocessing gamma"):
        Preprocessing.from_dict({"image_size": 64, "gamma": 2})


def test_resizing_is_written_down_only_where_it_is_not_the_default() -> None:
    assert "resize" not in Preprocessing().to_dict()
    padded = Preprocessing(resize="pad")
    assert padded.to_dict()["resize"] == "pad"
    assert Preprocessing.from_dict(padded.to_dict()) == padded
    with pytest.raises(SnowError, match="unknown way to resize 'stretch': use one of crop, pad, squash"):
        Preprocessing(resize="stretch")
