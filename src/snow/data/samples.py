"""Small sets of real pictures that come inside installed packages, written as ordinary image folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from snow.errors import SnowError

SIDE = 64


class Sample(NamedTuple):
    """A picture to be written as `split/label/name.png`."""

    split: str
    label: str
    name: str
    picture: Image.Image


def enlarge(values: np.ndarray) -> Image.Image:
    """`values`: (H, W), floating, 0 is black and 1 is white. Returns a picture of SIDE by SIDE, bicubic."""
    pixels = np.rint(values * 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def split(labels: np.ndarray, train: int, test: int, seed: int) -> Iterator[tuple[str, int]]:
    """Draw `train` and `test` pictures of each class, none twice: labels (n,), one class a picture.

    Yields ("train" or "test", index of the picture).
    """
    rng = np.random.default_rng(seed)
    for label in np.unique(labels):
        drawn = rng.permutation(np.flatnonzero(labels == label))[: train + test]
        yield from (("train" if place < train else "test", int(index)) for place, index in enumerate(drawn))


def packaged(name: str) -> Path:
    """Path of a file in the scikit-image package; `skimage.data` may download it."""
    return Path(str(files("skimage"))) / "data" / name


def photograph(name: str) -> np.ndarray:
    """Load a photograph of scikit-image as gray: floats (H, W), 0 is black and 1 is white.

    Raises:
        FileNotFoundError: the installed scikit-image does not carry it.
    """
    with Image.open(packaged(f"{name}.png")) as picture:
        return np.asarray(picture.convert("L")) / 255


def digits(seed: int) -> Iterator[Sample]:
    """Draw ten digits, each with 50 pictures to train on and 40 to test on, out of scikit-learn's 1,797.

    They are 8 by 8 pixels with 17 gray levels, white on black, and the same people wrote the training and the
    test pictures. The strokes reach the edge, so a black margin of one pixel keeps a centre crop from cutting
    them. A file's name is the picture's place in `sklearn.datasets.load_digits()`.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for part, index in split(labels, train=50, test=40, seed=seed):
        values = np.pad(images[index].reshape(8, 8) / 16, 1)
        yield Sample(part, str(labels[index]), f"{index:04d}", enlarge(values))


def faces(seed: int) -> Iterator[Sample]:
    """Draw faces and other things, each with 60 pictures to train on and 40 to test on, out of scikit-image.

    They are gray patches of 25 by 25 pixels from Labeled Faces in the Wild, the others from the backgrounds
    of the same photographs. A file's name is the picture's place in `skimage.data.lfw_subset()`.
    """
    images = np.load(packaged("lfw_subset.npy"))
    labels = np.repeat(["face", "other"], 100)
    for part, index in split(labels, train=60, test=40, seed=seed):
        yield Sample(part, str(labels[index]), f"{index:03d}", enlarge(images[index]))


TILE = 32
ROWS = {"train": range(0, 10), "test": range(11, 16)}
DRAWN = {"train": 120, "test": 60}


def textures(seed: int) -> Iterator[Sample]:
    """Draw brick, grass and gravel, each with 120 pictures to train on and 60 to test on, out of scikit-image.

    Each is one photograph, 512 by 512 pixels: 16 rows of 16 tiles of 32 by 32 pixels, which don't overlap.
    Training tiles come from the upper ten rows and test tiles from the lower five; the row between them,
    32 pixels high, is left out. A file's name is the tile's row and column.
    """
    rng = np.random.default_rng(seed)
    for label in ("brick", "grass", "gravel"):
        photo = photograph(label)
        for part, rows in ROWS.items():
            tiles = [(row, column) for row in rows for column in range(photo.shape[1] // TILE)]
            for row, column in rng.permutation(tiles)[: DRAWN[part]]:
                top, left = row * TILE, column * TILE
                patch = photo[top : top + TILE, left : left + TILE]
                yield Sample(part, label, f"{row:02d}-{column:02d}", enlarge(patch))


SAMPLES: dict[str, Callable[[int], Iterator[Sample]]] = {
    "digits": digits,
    "faces": faces,
    "textures": textures,
}
"""From a set's name to what makes its pictures from a seed."""


def write_samples(name: str, folder: str | Path, seed: int = 0) -> Path:
    """Write a set of `SAMPLES` as the image folder `folder/NAME-SEED/{train,test}/CLASS/*.png`.

    It appears in one step. Return that image folder; an existing one is left as it is.

    Raises:
        SnowError: an unknown name, a negative seed, or a folder that can't be written.
    """
    if name not in SAMPLES:
        raise SnowError(f"no samples are named {name!r}: use one of {', '.join(SAMPLES)}")
    if seed < 0:
        raise SnowError(f"seed {seed} is negative: use 0 or more")
    target = Path(folder) / f"{name}-{seed}"
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as scratch:
            draft = Path(scratch) / name
            for sample in SAMPLES[name](seed):
                place = draft / sample.split / sample.label
                place.mkdir(parents=True, exist_ok=True)
                sample.picture.save(place / f"{sample.name}.png")
            move(draft, target)
    except OSError as error:
        raise SnowError(f"cannot write the {name} samples to {target}: {error}") from error
    return target


def move(draft: Path, target: Path) -> None:
    """Rename a folder; where another process has put the same one meanwhile, that one stays."""
    try:
        draft.rename(target)
    except OSError:
        if not target.is_dir():
            raise
