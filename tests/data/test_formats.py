"""Formats beyond JPEG and PNG, and files that are no picture: each is read or named."""

from __future__ import annotations

import sys
import types

import pytest
from PIL import features

from snow.data import decode, open_dataset
from snow.data.formats import readable_formats, refusal
from snow.errors import SnowError


def ftyp(*brands: bytes) -> bytes:
    content = b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    return (len(content) + 4).to_bytes(4, "big") + content + b"mdat"


@pytest.fixture
def plain(monkeypatch):
    """Only what every installation reads."""
    monkeypatch.setattr("snow.data.formats.readable_formats", lambda: ("JPEG", "PNG"))


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("header", "words"),
    [
        (ftyp(b"heic", b"mif1"), "a HEIC picture, which needs a plugin: pip install pillow-heif"),
        (ftyp(b"mif1", b"heic"), "a HEIC picture"),
        (ftyp(b"mif1", b"avif"), "an AVIF picture, which needs a plugin: pip install pillow-avif-plugin"),
        (ftyp(b"isom", b"mp42"), "a video"),
        (b"\x00\x00\x00\x0cjP  \r\n", "a JPEG 2000 picture: save it as JPEG or PNG"),
        (b"\xff\x0a\x00", "a JPEG XL picture"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE HTML><title>404", "a web page"),
        (b"%PDF-1.7", "a PDF file"),
        (b"8BPS", "a Photoshop file"),
        (b"PK\x03\x04", "a ZIP archive: unpack it"),
        (b"hello", "not a JPEG, PNG, WebP, BMP, GIF or TIFF picture"),
        (b"", "not a JPEG"),
    ],
)
def test_a_file_that_is_not_read_is_called_what_it_is(header, words):
    assert refusal(header).startswith(words)


@pytest.mark.usefixtures("plain")
def test_photographs_of_a_telephone_are_named_with_the_plugin_that_reads_them(tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "IMG_0.HEIC").write_bytes(ftyp(b"heic", b"mif1"))
    with pytest.raises(SnowError, match=r"2 skipped in all, first .*IMG_0\.HEIC: a HEIC picture, .*pillow-heif"):
        open_dataset(tmp_path)


def test_folders_with_other_files_only_are_refused_with_an_example(tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "IMG_0.jp2").write_bytes(b"\x00\x00\x00\x0cjP  ")
    with pytest.raises(SnowError, match=r"ignored in .*cats: 1 files that are no pictures, as IMG_0\.jp2"):
        open_dataset(tmp_path)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read_where_pillow_has_it(tmp_path, draw):
    pixels = decode(draw(tmp_path / "a.avif", quality=100, subsampling="4:4:4"))
    exact = decode(draw(tmp_path / "a.png"))
    assert (pixels.int() - exact.int()).abs().float().mean() < 10


@pytest.fixture
def fresh_formats():
    readable_formats.cache_clear()
    yield
    readable_formats.cache_clear()


@pytest.mark.usefixtures("fresh_formats")
def test_a_heic_plugin_that_is_installed_is_used(monkeypatch):
    calls = []
    plugin = types.SimpleNamespace(register_heif_opener=lambda: calls.append("registered"))
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    assert "HEIF" in readable_formats()
    assert "HEIF" in readable_formats()
    assert calls == ["registered"]


@pytest.mark.usefixtures("fresh_formats")
def test_a_plugin_that_cannot_be_imported_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_avif", None)
    assert "HEIF" not in readable_formats()
