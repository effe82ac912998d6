from __future__ import annotations

import io
import os
import re
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from snow.data import decode, to_rgb
from snow.data.decode import PictureError, decode_file, shown
from snow.errors import SnowError


def pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def same(path: Path, expected: np.ndarray) -> bool:
    pixels = decode(path)
    assert pixels.dtype == torch.uint8
    assert pixels.shape[0] == 3
    return np.array_equal(pixels.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "bmp", "tif", "gif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_pictures_are_bit_equal_to_pillow(tmp_path, draw, extension, mode):
    path = draw(tmp_path / f"a.{extension}", mode=mode)
    assert same(path, pillow(path))


@pytest.mark.parametrize(("mode", "extension"), [("CMYK", "jpg"), ("P", "png"), ("1", "png"), ("YCbCr", "tif")])
def test_other_colour_modes_are_converted_as_by_pillow(tmp_path, draw, mode, extension):
    path = draw(tmp_path / f"a.{extension}", mode=mode)
    assert same(path, pillow(path))


def test_pillow_decodes_alike_where_torchvision_has_no_decoder(tmp_path, draw, monkeypatch):
    path = draw(tmp_path / "a.jpg")
    fast = decode(path)
    monkeypatch.setattr(torch.ops, "image", object())
    assert torch.equal(decode(path), fast)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_exif_orientation_is_applied(tmp_path, draw, orientation, extension):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = draw(tmp_path / f"a.{extension}", exif=exif)
    assert same(path, pillow(path))
    assert decode(path).shape == ((3, 16, 24) if orientation < 5 else (3, 24, 16))


@pytest.mark.parametrize("extension", ["png", "webp"])
def test_transparency_is_blended_on_white(tmp_path, extension):
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[:, :, 0] = 200
    pixels[:, :, 3] = [0, 255, 51]
    path = tmp_path / f"a.{extension}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if extension == "webp" else {}))
    clear, opaque, fifth = decode(path)[:, 0].unbind(1)
    assert clear.tolist() == [255, 255, 255]
    assert opaque.tolist() == [200, 0, 0]
    assert fifth.tolist() == [244, 204, 204]


def test_transparent_palette_and_gray_are_blended_on_white(tmp_path, draw):
    path = draw(tmp_path / "p.png", mode="P", transparency=bytes(256))
    assert decode(path).min() == 255
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "la.png")
    assert decode(tmp_path / "la.png").min() == 255
    Image.new("L", (4, 4), 7).save(tmp_path / "key.png", transparency=7)
    assert decode(tmp_path / "key.png").min() == 255


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_16_bits(samples: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG with the samples (H, W, C), C from 1 to 4, which Pillow cannot write."""
    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    body = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize(("bits", "shift"), [(16, 8), (13, 8), (12, 4), (9, 4), (8, 0)])
@pytest.mark.parametrize("extension", ["png", "tif"])
def test_gray_of_16_bits_keeps_the_upper_8_of_the_bits_in_use(tmp_path, bits, shift, extension):
    samples = np.linspace(0, 2**bits - 1, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(samples).save(tmp_path / f"a.{extension}")
    assert same(tmp_path / f"a.{extension}", np.repeat((samples >> shift).astype(np.uint8)[:, :, None], 3, 2))


@pytest.mark.parametrize("bits", [16, 12])
def test_colour_of_16_bits_keeps_the_upper_8_of_the_bits_in_use(tmp_path, bits):
    samples = np.random.default_rng(0).integers(0, 2**bits, (6, 5, 4)).astype(np.uint16)
    samples.flat[0], expected = 2**bits - 1, (samples >> (bits - 8)).astype(np.uint8)
    expected.flat[0] = 255
    (tmp_path / "rgb.png").write_bytes(png_of_16_bits(samples[:, :, :3]))
    assert same(tmp_path / "rgb.png", expected[:, :, :3])
    opaque = samples.copy()
    opaque[:, :, 3] = 2**bits - 1
    (tmp_path / "rgba.png").write_bytes(png_of_16_bits(opaque))
    assert same(tmp_path / "rgba.png", expected[:, :, :3])


def test_colour_of_16_bits_is_read_by_pillow_where_torchvision_has_no_decoder(tmp_path, monkeypatch):
    samples = np.random.default_rng(0).integers(0, 2**16, (6, 5, 3)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png_of_16_bits(samples))
    monkeypatch.setattr(torch.ops, "image", object())
    assert same(tmp_path / "a.png", (samples >> 8).astype(np.uint8))


def test_colour_of_16_bits_is_upright(tmp_path):
    samples = np.random.default_rng(0).integers(0, 2**16, (6, 5, 3)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = png_of_16_bits(samples, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    (tmp_path / "a.png").write_bytes(content)
    assert same(tmp_path / "a.png", np.rot90(samples >> 8, -1).astype(np.uint8))


LONG_TEXT = zlib.compress(bytes(3 * 2**20))


@pytest.mark.parametrize(
    "beside",
    [
        (b"zTXt", b"parameters\0\0" + LONG_TEXT),
        (b"iTXt", b"parameters\0\1\0\0\0" + LONG_TEXT),
        (b"iCCP", b"profile\0\0" + LONG_TEXT),
    ],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_png_with_much_text_or_a_large_profile_is_read(draw, tmp_path, beside, place):
    path = draw(tmp_path / "a.png")
    expected, content = decode(path), path.read_bytes()
    position = 33 if place == "before" else len(content) - 12
    path.write_bytes(content[:position] + chunk(*beside) + content[position:])
    assert torch.equal(decode(path), expected)


def test_a_png_that_is_broken_beside_its_text_is_still_broken(draw, tmp_path):
    content = bytearray(draw(tmp_path / "a.png").read_bytes())
    content[33:33] = chunk(b"tEXt", b"comment\0none")
    content[-30] ^= 255
    with pytest.raises(PictureError, match="x: the picture is"):
        decode_file(io.BytesIO(bytes(content)), "x")


def test_32_bit_samples_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(SnowError, match=r"a\.tif: samples of 32 bits"):
        decode(tmp_path / "a.tif")


def test_content_decides_and_not_the_extension(tmp_path, draw):
    path = draw(tmp_path / "a.png")
    assert torch.equal(decode(path.rename(tmp_path / "a.jpg")), decode(draw(path)))


def test_an_animation_gives_its_first_frame(tmp_path, draw):
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 255, 0))
    for name in ("a.gif", "a.webp", "a.tif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        red, green, _ = decode(tmp_path / name).float().mean((1, 2))
        assert red > 200 > 50 > green


def test_each_bad_file_is_named_with_its_reason(tmp_path, draw):
    whole = draw(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in {
        "empty.jpg": "the file is empty",
        "text.jpg": "not a JPEG, PNG, WebP, BMP, GIF or TIFF picture",
        "half.jpg": "the picture is truncated",
        "folder.jpg": "is a folder, not a picture",
        "link.jpg": "is a broken link",
        "pipe.jpg": "is not a regular file",
        "absent.jpg": "does not exist",
    }.items():
        with pytest.raises(SnowError) as caught:
            decode(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "bmp", "gif", "tif"])
def test_half_a_picture_is_never_taken_for_a_whole_one(tmp_path, draw, extension):
    path = draw(tmp_path / f"a.{extension}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SnowError, match=rf"^{re.escape(str(path))}: (the picture is (truncated|broken)|not a)"):
        decode(path)


def test_an_unreadable_file_is_named(tmp_path, draw, monkeypatch):
    path = draw(tmp_path / "a.jpg")

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(SnowError, match=r"a\.jpg: cannot be read \(Permission denied\)"):
        decode(path)


def test_too_many_pixels_are_refused_by_the_header_alone(tmp_path, monkeypatch):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(SnowError, match=r"bomb\.png: more than 178,956,970 pixels"):
        decode(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(SnowError, match=r"bomb\.png: 20000 x 10000 is more than 178,956,970 pixels"):
        decode(tmp_path / "bomb.png")


def test_a_picture_that_pillow_warns_about_is_decoded_in_silence(tmp_path, draw, monkeypatch):
    path = draw(tmp_path / "a.png", size=(30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(path).close()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert decode(path).shape == (3, 30, 30)
    assert not heard


def test_threads_leave_the_warning_filters_as_they_were(tmp_path, draw):
    path = draw(tmp_path / "a.png")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(path) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_to_rgb_names_what_it_cannot_convert():
    with pytest.raises(SnowError, match="picture 3: the picture has no pixels"):
        to_rgb(Image.new("RGB", (0, 4)), "picture 3")


def test_shown_is_one_printable_line():
    assert shown("a\nb\udcff.jpg") == "a b\\udcff.jpg"


SEEDS = []
for _format in ("JPEG", "PNG", "WEBP", "GIF"):
    _file = io.BytesIO()
    Image.effect_noise((20, 12), 90).convert("RGB").save(_file, _format)
    SEEDS.append(_file.getvalue())


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_give_a_picture_or_one_line(data):
    damaged = bytearray(data.draw(st.sampled_from(SEEDS)))
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=6)):
        damaged[position] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    try:
        pixels = decode_file(io.BytesIO(bytes(damaged[:end])), "damaged")
    except SnowError as error:
        pixels, line = None, str(error)
    if pixels is None:
        assert line.startswith("damaged: ")
        assert "\n" not in line
    else:
        assert pixels.dtype == torch.uint8
        assert pixels.ndim == 3
        assert pixels.shape[0] == 3


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=200))
def test_other_bytes_are_not_a_picture(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(SnowError, match=r"a\.jpg: "):
        decode(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda whole: b"", "empty"),
        (lambda whole: b"no picture", "not_a_picture"),
        (lambda whole: whole[: len(whole) * 2 // 3], "truncated"),
        (lambda whole: whole[:43] + bytes(60) + whole[103:], "broken"),
    ],
)
def test_why_a_picture_cannot_be_had_is_told_to_programs(content, reason):
    file = io.BytesIO()
    Image.effect_noise((40, 30), 50).save(file, "PNG")
    with pytest.raises(PictureError, match="x: ") as refused:
        decode_file(io.BytesIO(content(file.getvalue())), "x")
    assert refused.value.reason == reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_picture_that_was_cut_is_called_truncated(kind):
    file = io.BytesIO()
    Image.effect_noise((40, 30), 50).save(file, kind)
    with pytest.raises(PictureError, match="x: the picture is truncated") as refused:
        decode_file(io.BytesIO(file.getvalue()[: len(file.getvalue()) * 2 // 3]), "x")
    assert refused.value.reason == "truncated"


def test_how_many_pixels_are_too_many_can_be_said(tmp_path, draw):
    content = draw(tmp_path / "a.png").read_bytes()
    pixels = decode(tmp_path / "a.png")[0].numel()
    assert decode_file(io.BytesIO(content), "x", pixels).shape[0] == 3
    with pytest.raises(PictureError, match=f"more than {pixels - 1:,} pixels") as refused:
        decode_file(io.BytesIO(content), "x", pixels - 1)
    assert refused.value.reason == "too_many_pixels"


def test_damaged_exif_does_not_hide_a_jpeg(monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "JPEG")

    def fail(image: Image.Image) -> None:
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    with pytest.raises(PictureError, match="x: the picture is broken"):
        decode_file(file, "x")
