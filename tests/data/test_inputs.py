"""One picture in whatever form a program has it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from snow.data import decode, to_pixels
from snow.errors import SnowError


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
        (np.full((4, 4, 3), 200.0), r"p: floats from 200 to 200 are not in 0\.\.1: divide by 255"),
        (torch.full((3, 4, 4), float("nan")), "p: floats from nan to nan are not in"),
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
