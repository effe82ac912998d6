"""A picture file becomes a uint8 RGB tensor, or one line that says why it cannot."""

from __future__ import annotations

import os
import re
import struct
import threading
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from snow.data.formats import HEADER, readable_formats, refusal
from snow.errors import SnowError
from snow.process import vision  # noqa: F401  registers the JPEG decoder of torchvision in torch.ops.image

MAX_PIXELS = 178_956_970
"""More than this is taken for a decompression bomb, as in Pillow, and never decoded."""

MAX_SCANS = 500
"""A JPEG with more scans is taken for a bomb: a scan of a few bytes can take as long as a picture. libjpeg-turbo's own
fuzzers stop there too; encoders write up to about a dozen."""

_SCAN = b"\xff\xda"
_TILE_WIDTH, _TILE_LENGTH = 322, 323

REASONS = ("absent", "empty", "not_a_picture", "truncated", "too_many_pixels", "broken")
"""Why a picture cannot be had, for programs."""

_RGB, _UNCHANGED = 3, 0
_ORIENTATION = 0x0112

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
"""Chunks that no pixel depends on: text and colour profile."""


class PictureError(SnowError):
    """One picture cannot be used; `reason` is one of `REASONS`.

    It can be made of a message alone, as torch does with what a loading process raised.
    """

    def __init__(self, message: str, reason: str = "broken") -> None:
        super().__init__(message)
        self.reason = reason


class _Quiet:
    """Hides Pillow's warnings. Filters belong to all threads: the first in sets, the last out restores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


_quiet = _Quiet()


def decode(path: str | os.PathLike[str]) -> Tensor:
    """Decode one picture to RGB, upright: a file -> uint8 (3, H, W).

    The content decides, not the extension: JPEG, PNG, WebP, BMP, GIF and TIFF, AVIF and HEIC where Pillow or a
    plugin reads them, the first frame of an animation. EXIF orientation is applied, transparency is blended on
    white; grayscale, palette and CMYK become RGB as Pillow converts them, without colour profiles; 16-bit
    samples become 8 bits by `to_8_bits`.

    Raises:
        PictureError: `path: reason` for a file that is missing, unreadable, empty, not a picture, truncated or
            broken, for 32-bit samples, which have no agreed range, and for more than `MAX_PIXELS` pixels.
    """
    path = Path(path)
    name = shown(path)
    try:
        if not path.is_file():
            raise PictureError(f"{name}: {_absence(path)}", "absent")
        with path.open("rb") as file:
            return decode_file(file, name)
    except OSError as error:
        raise PictureError(f"{name}: cannot be read ({error.strerror or error})", "absent") from None


def decode_file(file: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode an open file, as `decode`; `name` stands for it in errors."""
    try:
        return _decode_once(file, name, max_pixels)
    except PictureError as error:
        if error.reason != "broken":
            raise
        file.seek(0)
        smaller = _without_text(file.read())
        if smaller is None:
            raise
        return _decode_once(BytesIO(smaller), name, max_pixels)


def measure(file: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Count the pixels and the scans of a picture without decoding it; only a JPEG has more than one scan.

    Raises:
        PictureError: as `decode_file`.
    """
    image = _open(file, name, max_pixels)
    return image.width * image.height, _count_scans(image, file)


def _decode_once(file: BinaryIO, name: str, max_pixels: int) -> Tensor:
    image = _open(file, name, max_pixels)
    decoders = torch.ops.image
    if hasattr(decoders, "decode_jpeg") and _is_plain_jpeg(image):
        file.seek(0)
        with suppress(RuntimeError):
            return decoders.decode_jpeg(_bytes(file), _RGB)
        file.seek(0)
        image = _open(file, name, max_pixels)
    if hasattr(decoders, "decode_png") and _is_16_bit_colour_png(image):
        file.seek(0)
        with suppress(RuntimeError):  # Pillow keeps the upper 8 bits only
            samples = decoders.decode_png(_bytes(file), _UNCHANGED).permute(1, 2, 0).numpy()
            return to_rgb(_upright(_colour(to_8_bits(samples)), image), name, max_pixels)
        file.seek(0)
        image = _open(file, name, max_pixels)
    return to_rgb(image, name, max_pixels)


def to_8_bits(samples: np.ndarray) -> np.ndarray:
    """Map 16-bit samples to 8 bits: uint16 (...) -> uint8 (...).

    The upper 8 of the bits that are in use. Cameras, microscopes and X-ray detectors store 12-bit samples in 16 bits,
    so a picture whose samples are all below 2^12 has 12 bits, and one whose samples are all below 2^8 has 8.
    """
    largest = int(samples.max(initial=0))
    bits = next(bits for bits in (8, 12, 16) if largest < 1 << bits)
    return (samples >> (bits - 8)).astype(np.uint8)


def _bytes(file: BinaryIO) -> Tensor:
    return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)


def _colour(samples: np.ndarray) -> Image.Image:
    """Make a Pillow image: (H, W, C) with C of 2 (gray and alpha), 3 or 4."""
    return Image.fromarray(samples, {2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]])


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Give `pixels` the EXIF of `image`, which `to_rgb` applies."""
    pixels.info["exif"] = image.info.get("exif", b"")
    return pixels


def to_rgb(image: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Convert a Pillow image by the rules of `decode`: -> uint8 (3, H, W); `name` is for errors."""
    _check_size(image, name, max_pixels)
    try:
        with _quiet:
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode in ("I", "F"):
                raise PictureError(f"{name}: samples of 32 bits have no agreed range: save it with 8 or 16", "broken")
            if image.mode.startswith("I;16"):
                image = Image.fromarray(to_8_bits(np.asarray(image)))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGB", image.size, "white")
                white.paste(image, mask=image.getchannel("A"))
                image = white
            pixels = np.array(image.convert("RGB"))
    except SnowError:
        raise
    except Exception as error:
        raise _refused(error, name) from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def shown(path: str | os.PathLike[str]) -> str:
    """Write a path as one line that any terminal can print."""
    return " ".join(os.fspath(path).encode("utf-8", "backslashreplace").decode().split())


def _open(file: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    """Read the header only, and refuse what should not be decoded."""
    try:
        with _quiet:
            image = Image.open(file, formats=readable_formats())
    except Image.DecompressionBombError:
        raise PictureError(f"{name}: more than {max_pixels:,} pixels", "too_many_pixels") from None
    except Exception as error:
        length = file.seek(0, os.SEEK_END)
        if not length:
            raise PictureError(f"{name}: the file is empty", "empty") from None
        file.seek(0)
        kind, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if kind == b"RIFF" and length < 8 + size:  # of a WebP that was cut, Pillow says no more than that it is broken
            raise PictureError(f"{name}: the picture is truncated", "truncated") from None
        if isinstance(error, Image.UnidentifiedImageError):
            file.seek(0)
            raise PictureError(f"{name}: {refusal(file.read(HEADER))}", "not_a_picture") from None
        raise _refused(error, name) from None
    _check_size(image, name, max_pixels)
    _check_scans(image, file, name)
    return image


def _count_scans(image: Image.Image, file: BinaryIO) -> int:
    """Count the scans of a JPEG. The marker of a scan cannot be part of coded data (ITU T.81, B.1.1.5)."""
    if image.format not in ("JPEG", "MPO"):
        return 1
    position = file.tell()
    file.seek(0)
    scans = file.read().count(_SCAN)
    file.seek(position)
    return scans


def _check_scans(image: Image.Image, file: BinaryIO, name: str) -> None:
    scans = _count_scans(image, file)
    if scans > MAX_SCANS:
        raise PictureError(f"{name}: the picture is broken ({scans:,} scans are more than {MAX_SCANS})", "broken")


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise PictureError(f"{name}: {width} x {height} is more than {max_pixels:,} pixels", "too_many_pixels")
    if not width * height:
        raise PictureError(f"{name}: the picture has no pixels", "empty")
    tags = getattr(image, "tag_v2", {})
    tile_width, tile_length = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)
    if isinstance(tile_width, int) and isinstance(tile_length, int) and tile_width * tile_length > max_pixels:
        raise PictureError(
            f"{name}: a tile of {tile_width} x {tile_length} is more than {max_pixels:,} pixels", "too_many_pixels"
        )


def _is_plain_jpeg(image: Image.Image) -> bool:
    """Tell whether torchvision decodes an image to the same pixels as Pillow, in two thirds of the time.

    PNG it decodes more slowly, WebP not much faster. The registered operator is called, since its Python
    wrapper is deprecated and warns. A torchvision that has dropped it leaves everything to Pillow.
    """
    if image.format != "JPEG" or image.mode not in ("RGB", "L"):
        return False
    try:
        with _quiet:
            return image.getexif().get(_ORIENTATION, 1) == 1
    except Exception:  # damaged EXIF can fail in any way
        return False


def _is_16_bit_colour_png(image: Image.Image) -> bool:
    """Tell whether Pillow would drop the lower bits of an RGB, RGBA or gray and alpha PNG when it is loaded."""
    tiles = getattr(image, "tile", [])
    return image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA") and "16" in str(tiles[0][3] if tiles else "")


def _absence(path: Path) -> str:
    if path.is_dir():
        return "is a folder, not a picture"
    if path.exists():
        return "is not a regular file"
    return "is a broken link" if path.is_symlink() else f"does not exist{path_hint(path)}"


def path_hint(path: str | os.PathLike[str]) -> str:
    """Say what may be meant by a path to nothing: "" or a clause. A shell expands neither ~ nor * in quotes."""
    text = os.fspath(path)
    if re.match(r"(https?|ftp|s3|gs|hf):/", text, re.IGNORECASE):
        return ": it is an address, so download it first"
    if text.startswith("~"):
        return ": write ~ without quotes, or the whole path"
    return ": write the pattern without quotes" if any(mark in text for mark in "*?") else ""


def _refused(error: Exception, name: str) -> PictureError:
    text = str(error)
    if isinstance(error, MemoryError):
        return PictureError(f"{name}: too large for this machine's memory", "too_many_pixels")
    if "truncated" in text.lower():
        return PictureError(f"{name}: the picture is truncated", "truncated")
    return PictureError(f"{name}: the picture is broken ({text or type(error).__name__})", "broken")


def _without_text(content: bytes) -> bytes | None:
    """Copy a PNG without the chunks in `PNG_TEXT_CHUNKS`; None if it has none of them or is no PNG.

    Pillow refuses a PNG with more than 1 MB of compressed text or colour profile, which some generators and scanners
    write. A chunk is length, type, content and CRC (PNG specification, section 5.3).
    """
    if not content.startswith(PNG_SIGNATURE):
        return None
    kept, position, dropped = [PNG_SIGNATURE], len(PNG_SIGNATURE), False
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if kind in PNG_TEXT_CHUNKS:
            dropped = True
        else:
            kept.append(content[position:end])
        position = end
    return b"".join(kept) if dropped else None
