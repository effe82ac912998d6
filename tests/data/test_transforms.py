from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from snow.data import AUGMENTS, eval_transform, to_rgb, train_transform
from snow.errors import SnowError
from snow.source import Preprocessing
from snow.source.preprocessing import RESIZES

SMALL = Preprocessing(image_size=32)


def picture(width: int, height: int) -> torch.Tensor:
    smooth = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return to_rgb(Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC), "smooth")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(["eval", *AUGMENTS]), st.sampled_from(RESIZES))
def test_any_picture_becomes_a_square(width, height, name, resize):
    preprocessing = Preprocessing(image_size=32, resize=resize)
    transform = eval_transform(preprocessing) if name == "eval" else train_transform(preprocessing, name)
    square = transform(picture(width, height))
    assert square.dtype == torch.uint8
    assert square.shape == (3, 32, 32)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 200), (90, 200), (40, 30)])
def test_evaluation_is_as_pillow_would_do_it(size, interpolation):
    pixels = picture(*size)
    pillow = v2.Compose([v2.Resize(36, v2.InterpolationMode(interpolation)), v2.CenterCrop(32)])
    expected = np.asarray(pillow(Image.fromarray(pixels.permute(1, 2, 0).numpy())), dtype=np.int16)
    transform = eval_transform(Preprocessing(image_size=32, crop_pct=32 / 36, interpolation=interpolation))
    assert np.abs(transform(pixels).permute(1, 2, 0).numpy() - expected).max() <= 2


def test_a_long_strip_is_cut_to_its_middle_before_it_grows():
    strip = torch.zeros(3, 1, 60_000, dtype=torch.uint8)
    strip[:, :, 29_990:30_010] = 200
    for shape in (strip, strip.transpose(1, 2)):
        assert eval_transform(SMALL)(shape).min() == 200


@pytest.mark.parametrize("resize", RESIZES)
def test_no_augmentation_is_evaluation(resize):
    pixels, preprocessing = picture(50, 40), Preprocessing(image_size=32, resize=resize)
    assert torch.equal(train_transform(preprocessing, "none")(pixels), eval_transform(preprocessing)(pixels))


def marked(width: int, height: int) -> torch.Tensor:
    """Black, with a white square at the left or upper end."""
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    side = min(width, height)
    pixels[:, :side, :side] = 255
    return pixels


@pytest.mark.parametrize("size", [(160, 40), (40, 160)])
def test_the_ends_of_a_long_picture_are_lost_to_a_crop_alone(size):
    seen = {way: eval_transform(Preprocessing(image_size=32, resize=way))(marked(*size)) for way in RESIZES}
    assert seen["crop"].max() == 0
    assert seen["pad"].max() == seen["squash"].max() == 255


def test_padding_is_the_mean_on_both_sides_and_keeps_the_shape():
    preprocessing = Preprocessing(image_size=32, mean=(0.2, 0.4, 0.6), resize="pad")
    square = eval_transform(preprocessing)(torch.full((3, 10, 40), 255, dtype=torch.uint8))
    assert square[:, 12:20].min() == 255
    for rows in (square[:, :12], square[:, 20:]):
        assert [channel.unique().tolist() for channel in rows] == [[51], [102], [153]]


def test_squashing_changes_the_shape_and_nothing_is_added():
    squashed = eval_transform(Preprocessing(image_size=32, resize="squash"))(marked(128, 32))
    assert (squashed[0] > 127).float().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_augmentation_sees_the_ends_too(resize):
    transform = train_transform(Preprocessing(image_size=32, resize=resize), "mild")
    torch.manual_seed(0)
    assert sum(int(transform(marked(160, 40)).max() > 200) for _ in range(20)) >= 15


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_a_strip_needs_no_more_memory_than_its_square(resize):
    strip = torch.full((3, 1, 60_000), 200, dtype=torch.uint8)
    preprocessing = Preprocessing(image_size=32, resize=resize)
    for transform in (eval_transform(preprocessing), train_transform(preprocessing, "crop")):
        assert transform(strip).shape == (3, 32, 32)


@pytest.mark.parametrize(("name", "mirrors"), [("flip", True), ("shift", False), ("mild", True), ("crop", True)])
def test_mirroring_happens_where_it_is_said_to(name, mirrors):
    ramp = torch.arange(0, 240, 4, dtype=torch.uint8).expand(3, 60, 60)
    torch.manual_seed(0)
    rising = [bool(row[-1] > row[0]) for row in (train_transform(SMALL, name)(ramp)[0, 0].int() for _ in range(30))]
    assert any(rising)
    assert all(rising) is not mirrors


@pytest.mark.parametrize("name", sorted(set(AUGMENTS) - {"none"}))
def test_an_augmentation_differs_from_draw_to_draw(name):
    transform = train_transform(SMALL, name)
    torch.manual_seed(0)
    assert len({transform(picture(50, 40)).numpy().tobytes() for _ in range(8)}) > 1


def test_an_unknown_augmentation_is_refused_with_those_there_are():
    with pytest.raises(SnowError, match=r"unknown augmentation 'cutmix': use one of none, flip, .*trivial"):
        train_transform(SMALL, "cutmix")
