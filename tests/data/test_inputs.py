"""One picture in whatever form a program has it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from snow.data import decode, eval_transform, to_batch, to_pixels
from snow.errors import SnowError
from snow.source import Preprocessing


@pytest.fixture
def path(tmp_path, draw):
    return draw(tmp_path / "a.png")


def test_every_form_of_a_picture_gives_the_same_pixels(path):
    expected = decode(path)
    array = np.asarray(Image.open(path))
    forms = {
        "path": path,
        "text": str(path),
        "bytes of a path": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "memoryview": memoryview(path.read_bytes()),
        "open file": io.BytesIO(path.read_bytes()),
        "Pillow": Image.open(path),
        "array": array,
        "array of floats": array / 255,
        "array of 16 bits": array.astype(np.uint16) * 257,
        "array (3, H, W)": np.moveaxis(array, 2, 0),
        "opaque": np.dstack([array, np.full(array.shape[:2], 255, np.uint8)]),
        "tensor": expected,
        "tensor of floats": expected / 255,
        "tensor of whole floats": expected.float(),
        "array of whole floats": array.astype(np.float64),
        "tensor (H, W, 3)": torch.from_numpy(array.copy()),
    }
    for name, form in forms.items():
        pixels = to_pixels(form)
        assert pixels.dtype == torch.uint8, name
        assert torch.equal(pixels, expected), name


def test_gray_and_half_transparent_pictures(path):
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for form in (gray, gray[:, :, None], torch.from_numpy(gray), torch.from_numpy(gray)[None]):
        assert to_pixels(form).tolist() == [gray.tolist()] * 3
    assert to_pixels(np.zeros((2, 2, 4), np.uint8)).min() == 255


def test_a_picture_is_left_as_it_was(path):
    image = Image.open(path)
    to_pixels(image)
    assert image.format == "PNG"
    array = np.zeros((3, 3, 3), np.uint8)
    to_pixels(array).fill_(7)
    assert array.max() == 0


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (np.full((4, 4, 3), 200.5), r"p: floats from 200.5 to 200.5 are neither in 0\.\.1 nor whole numbers up to 255"),
        (np.full((4, 4, 3), 256.0), "p: floats from 256 to 256 are neither"),
        (np.full((4, 4, 3), -0.5), "p: floats from -0.5 to -0.5 are neither"),
        (torch.full((3, 4, 4), float("nan")), "p: floats from nan to nan are neither"),
        (np.zeros((4, 4, 3), np.int64), "p: numbers of type int64 have no agreed range"),
        (np.zeros((5, 4, 2), np.uint8), r"p: shape \(5, 4, 2\) is not that of one picture"),
        (torch.zeros(2, 3, 4, 4), r"p: shape \(2, 3, 4, 4\) is not that of one picture"),
        (np.zeros((0, 4, 3), np.uint8), "p: the picture has no pixels"),
        (b"", "p: the file is empty"),
        (b"text", "p: not a JPEG"),
        (5, "p: int is no picture: pass a path, bytes"),
        (None, "p: NoneType is no picture"),
        (io.StringIO("text"), "p: StringIO is no picture"),
        ("gone.jpg", "gone.jpg: does not exist"),
    ],
)
def test_what_is_no_picture_is_one_line(form, message):
    with pytest.raises(SnowError, match=message) as refused:
        to_pixels(form, "p")
    assert "\n" not in str(refused.value)


def test_one_picture_and_several_in_any_form_make_a_batch(path):
    size = Preprocessing(image_size=32)
    expected = eval_transform(size)(decode(path))
    pixels, array = decode(path), np.asarray(Image.open(path))
    for form in (str(path), path, path.read_bytes(), Image.open(path), array, pixels):
        assert torch.equal(to_batch(form, size), expected[None]), type(form)
        assert torch.equal(to_batch((item for item in [form]), size), expected[None]), type(form)
    assert torch.equal(to_batch(io.BytesIO(path.read_bytes()), size), expected[None])
    mixed = to_batch([path, array, pixels.float()], size)
    assert torch.equal(mixed, expected.expand(3, -1, -1, -1))
    assert torch.equal(to_batch(np.stack([array, array]), size), mixed[:2])
    assert to_batch([], size).shape == (0, 3, 32, 32)


def test_a_batch_of_the_source_s_size_is_prepared_already():
    size, images = Preprocessing(image_size=32), torch.arange(2 * 3 * 32 * 32).view(2, 3, 32, 32) % 256
    for batch in (images.byte(), images.float(), images.float() / 255):
        assert torch.equal(to_batch(batch, size), images.byte())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.zeros(2, 3, 30, 32, dtype=torch.uint8),
            r"pictures of shape \(3, 32, 32\) in a batch, not \(3, 30, 32\)",
        ),
        ({"image": "a.png"}, "picture 0: dict is no picture: pass a path, bytes"),
        (None, "picture 0: NoneType is no picture"),
        (5, "picture 0: int is no picture"),
        ([np.zeros((4, 4, 3), np.uint8), 5], "picture 1: int is no picture"),
        ([["a.png"]], "picture 0: list is no picture"),
        ("gone.jpg", "gone.jpg: does not exist"),
        (torch.full((1, 3, 32, 32), 300.0), "picture 0: floats from 300"),
    ],
)
def test_what_makes_no_batch_is_one_line(images, message):
    with pytest.raises(SnowError, match=message):
        to_batch(images, Preprocessing(image_size=32))
