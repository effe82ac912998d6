"""Pictures of every format get one answer each, whichever way they come: train, eval, predict, the service, ONNX."""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, features

import snow
from snow.cli.app import main
from snow.data import eval_transform, to_batch, to_pixels
from snow.hub import Hub

Wait = Callable[[Any], None]
Write = Callable[[Image.Image], bytes]
CLASSES = ("blue", "green", "red")
SIDES = ((60, 90), (90, 60), (64, 64), (50, 97))


def photograph(number: int) -> Image.Image:
    """Draw a picture of class `number % 3`: a ramp of its colour with noise, which looks different whichever way up."""
    rng = np.random.default_rng(number)
    height, width = SIDES[number % len(SIDES)]
    pixels = rng.integers(0, 110, (height, width, 3)).astype(np.float64)
    pixels[..., 2 - number % 3] += np.linspace(0, 80, width)
    pixels[: height // 3, : width // 2] += 40
    return Image.fromarray(pixels.astype(np.uint8))


def saved(image: Image.Image, kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = BytesIO()
    with_alpha(image, mode).save(file, kind, **options)
    return file.getvalue()


def with_alpha(image: Image.Image, mode: str) -> Image.Image:
    """Convert to a mode; one with transparency gets a ramp of it."""
    if mode == "P":
        return image.quantize(64)
    converted = image.convert(mode)
    if mode in ("LA", "RGBA"):
        converted.putalpha(Image.linear_gradient("L").resize(image.size))
    return converted


def deep_png(image: Image.Image, mode: str, factor: int = 257) -> bytes:
    """Write a PNG with samples of 16 bits, which Pillow does for gray alone."""
    samples = np.asarray(with_alpha(image, mode)).astype(">u2") * factor
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, {"L": 0, "LA": 4, "RGB": 2, "RGBA": 6}[mode], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (struct.pack(">I", len(data)) + kind + data + zlib.crc32(kind + data).to_bytes(4) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def turned(image: Image.Image, kind: str, orientation: int, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return saved(image, kind, exif=exif, **options)


def animated(image: Image.Image, kind: str) -> bytes:
    others = [photograph(number).resize(image.size) for number in (100, 101)]
    return saved(image, kind, save_all=True, append_images=others)


def transparent_colour(image: Image.Image) -> bytes:
    return saved(image, "PNG", transparency=image.getpixel((3, 3)))


def talkative(image: Image.Image) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000, zip=True)
    return saved(image, "PNG", pnginfo=text)


def profiled(image: Image.Image, kind: str) -> bytes:
    return saved(image, kind, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def written(kind: str, mode: str = "RGB", **options: Any) -> Write:
    return partial(saved, kind=kind, mode=mode, **options)


FORMATS: dict[str, Write] = {
    **{f"{mode}.png": written("PNG", mode) for mode in ("RGB", "L", "LA", "RGBA", "P", "1")},
    **{f"deep-{mode}.png": partial(deep_png, mode=mode) for mode in ("L", "LA", "RGB", "RGBA")},
    **{f"12-bit-{mode}.png": partial(deep_png, mode=mode, factor=16) for mode in ("L", "RGB")},
    **{"key.png": transparent_colour, "text.png": talkative, "profile.png": partial(profiled, kind="PNG")},
    **{f"turned-{number}.jpg": partial(turned, kind="JPEG", orientation=number) for number in range(1, 9)},
    **{f"{mode}.jpg": written("JPEG", mode, quality=92) for mode in ("RGB", "L", "CMYK")},
    "progressive.jpeg": written("JPEG", progressive=True),
    "full.JPG": written("JPEG", subsampling=0, quality=98),
    "cmyk-progressive.jpg": written("JPEG", "CMYK", progressive=True),
    "profile.jpg": partial(profiled, kind="JPEG"),
    "lossy.webp": written("WEBP"),
    "lossless.webp": written("WEBP", lossless=True),
    "alpha.webp": written("WEBP", "RGBA"),
    "turned.webp": partial(turned, kind="WEBP", orientation=6),
    "animated.webp": partial(animated, kind="WEBP"),
    "P.gif": written("GIF", "P"),
    "L.gif": written("GIF", "L"),
    "alpha.gif": written("GIF", "RGBA"),
    "animated.gif": partial(animated, kind="GIF"),
    **{f"{mode}.bmp": written("BMP", mode) for mode in ("RGB", "P", "L", "1")},
    **{f"{mode}.tif": written("TIFF", mode) for mode in ("RGB", "L", "RGBA", "P", "CMYK", "I;16")},
    "lzw.tiff": written("TIFF", compression="tiff_lzw"),
    "pages.tiff": partial(animated, kind="TIFF"),
    "turned.tiff": partial(turned, kind="TIFF", orientation=3),
}
if features.check("avif"):
    FORMATS |= {"RGB.avif": written("AVIF"), "RGBA.avif": written("AVIF", "RGBA")}
    FORMATS["turned.avif"] = partial(turned, kind="AVIF", orientation=8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/` with 30 PNG of three classes, `test/` with a picture of every format."""
    root = tmp_path_factory.mktemp("alike") / "pictures"
    contents = {f"{number}.png": saved(photograph(999 + number), "PNG") for number in range(30)}
    for part, files in (("train", contents), ("test", dict.fromkeys(FORMATS))):
        for number, (name, content) in enumerate(files.items()):
            path = root / part / CLASSES[number % 3] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(FORMATS[name](photograph(number)) if content is None else content)
    return root


@pytest.fixture(scope="module")
def learned(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub with a task that is right about some of the pictures, trained in the precision of this machine."""
    hub = tmp_path_factory.mktemp("alike") / "hub"
    source = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")
    recipe = ("--epochs", "4", "--batch-size", "6", "--workers", "0", "--lr", "0.003", "--augment", "none")
    assert main(["train", str(pictures), "--task", "colour", "--hub", str(hub), *source, *recipe]) == 0
    return hub


@pytest.fixture
def hub(learned: Path) -> Hub:
    """The hub that `serve` serves."""
    return Hub.open(learned)


def test_every_way_gives_a_picture_the_same_answer(
    pictures: Path, hub: Hub, serve: Any, wait: Wait, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(path for path in (pictures / "test").rglob("*") if path.is_file())
    assert len(files) == len(FORMATS) >= 45
    contents = [path.read_bytes() for path in files]
    expected = hub.predict_proba(files, "colour")
    answers = [CLASSES[number] for number in expected.argmax(1)]
    truth = [path.parent.name for path in files]
    assert len(set(answers)) == 3

    # to training: the very pixels
    dataset = snow.open_dataset(pictures)
    loaded = dataset.test.with_transform(eval_transform(hub.source.preprocessing))
    of_training = {path: loaded[index][0] for index, path in enumerate(dataset.test.items)}
    assert torch.equal(torch.stack([of_training[path] for path in files]), to_batch(files, hub.source.preprocessing))

    # to Python: content, Pillow pictures and arrays
    assert np.array_equal(hub.predict_proba(contents, "colour"), expected)
    arrays = [to_pixels(path).permute(1, 2, 0).numpy() for path in files]
    assert np.array_equal(hub.predict_proba(arrays, "colour"), expected)
    # Pillow itself drops bits of the first, and refuses the second
    opened = [number for number, path in enumerate(files) if path.name not in ("12-bit-RGB.png", "text.png")]
    from_pillow = hub.predict_proba([Image.open(BytesIO(contents[number])) for number in opened], "colour")
    assert from_pillow.argmax(1).tolist() == expected[opened].argmax(1).tolist()
    assert np.allclose(from_pillow, expected[opened], atol=0.02)

    # to the command, which measures as training did
    capsys.readouterr()
    assert main(["predict", str(hub.path), *map(str, files), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [entry["tasks"]["colour"]["classes"][0]["class"] for entry in printed] == answers
    assert main(["eval", str(hub.path), str(pictures), "--task", "colour", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["top1"] == pytest.approx(np.mean([one == other for one, other in zip(answers, truth, strict=True)]))
    assert measured["top1"] == hub.task("colour").metrics["test"]["top1"]
    for name in CLASSES:
        confused = Counter(answer for answer, label in zip(answers, truth, strict=True) if label == name)
        assert measured["per_class"][name]["predicted"] == confused

    # to the service
    async def work() -> None:
        async with serve(max_pictures=64) as served:
            sent = [("files", (path.name, content)) for path, content in zip(files, contents, strict=True)]
            results = (await served.client.post("/v1/predict", files=sent)).json()["results"]
            classes = [entry["tasks"]["colour"]["classes"] for entry in results]
            found = [{one["class"]: one["probability"] for one in entry} for entry in classes]
            probabilities = [[entry[name] for name in CLASSES] for entry in found]
            assert np.allclose(probabilities, expected, atol=1e-4)
            assert [max(entry, key=entry.__getitem__) for entry in found] == answers

    wait(work())

    # to the exported file
    onnxruntime = pytest.importorskip("onnxruntime")
    snow.export(hub, tmp_path / "hub.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "hub.onnx", providers=["CPUExecutionProvider"])
    [logits] = session.run(["colour"], {"images": to_batch(files, hub.source.preprocessing).numpy()})
    assert [CLASSES[number] for number in logits.argmax(1)] == answers
