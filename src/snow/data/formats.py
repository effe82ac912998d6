"""Picture formats: file extensions, what Pillow opens here, and names for files that are not read."""

from __future__ import annotations

import importlib
from contextlib import suppress
from functools import cache

from PIL import Image, features

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".hif", ".avif"}
)
"""File names that count as pictures, in any mixture of upper and lower case."""

ALWAYS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Formats that every installation reads."""

HEADER = 512
"""Bytes of a file that `refusal` looks at."""

_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF = frozenset({b"avif", b"avis"})
_CONVERT = "save it as JPEG or PNG"
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x00\x00\x00\x0cjP  ", f"a JPEG 2000 picture: {_CONVERT}"),
    (b"\xff\x4f\xff\x51", f"a JPEG 2000 picture: {_CONVERT}"),
    (b"\x00\x00\x00\x0cJXL ", f"a JPEG XL picture: {_CONVERT}"),
    (b"\xff\x0a", f"a JPEG XL picture: {_CONVERT}"),
    (b"8BPS", f"a Photoshop file: {_CONVERT}"),
    (b"%PDF", "a PDF file: save its pages as JPEG or PNG"),
    (b"%!PS", "a PostScript file: save its pages as JPEG or PNG"),
    (b"PK\x03\x04", "a ZIP archive: unpack it"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the picture: run git lfs pull"),
    (b"<!doctype html", "a web page in place of the picture: download it again"),
    (b"<html", "a web page in place of the picture: download it again"),
    (b"<svg", f"an SVG drawing: {_CONVERT}"),
)


@cache
def readable_formats() -> tuple[str, ...]:
    """List Pillow's names of the formats that are read: `ALWAYS`, and AVIF and HEIF where Pillow or a plugin has them.

    AVIF comes with Pillow or `pillow-avif-plugin`, HEIF (.heic) with `pillow-heif`. A plugin that cannot be imported
    counts as absent.
    """
    names = list(ALWAYS)
    with suppress(Exception):
        importlib.import_module("pillow_avif")
    if features.check("avif") or "AVIF" in Image.OPEN:
        names.append("AVIF")
    with suppress(Exception):
        importlib.import_module("pillow_heif").register_heif_opener()
        names.append("HEIF")
    return tuple(names)


def refusal(header: bytes) -> str:
    """Name a file that no format fits, by its first bytes, and what to do about it."""
    kind = _isobmff_kind(header)
    if kind == "HEIC" and "HEIF" not in readable_formats():
        return "a HEIC picture, which needs a plugin: pip install pillow-heif"
    if kind == "AVIF" and "AVIF" not in readable_formats():
        return "an AVIF picture, which needs a plugin: pip install pillow-avif-plugin"
    if kind == "video":
        return "a video: save its frames as JPEG or PNG"
    start = header.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for signature, words in _STARTS:
        if header.startswith(signature) or start.startswith(signature):
            return words
    return "not a JPEG, PNG, WebP, BMP, GIF or TIFF picture"


def _isobmff_kind(header: bytes) -> str | None:
    """Tell HEIC, AVIF and video apart by the brands of an ISO base media file (ISO/IEC 14496-12, box `ftyp`)."""
    if header[4:8] != b"ftyp":
        return None
    size = int.from_bytes(header[:4], "big")
    brands = [header[8:12], *(header[start : start + 4] for start in range(16, min(size, len(header)), 4))]
    if _AVIF.intersection(brands):
        return "AVIF"
    return "HEIC" if _HEIC.intersection(brands) else "video"
