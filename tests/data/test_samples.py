"""The packaged pictures: how many, of what, and that training and test never share one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from snow.data import samples as textures
from snow.data.samples import SAMPLES, SIDE, Sample, write_samples
from snow.errors import SnowError

EXPECTED = {
    "digits": ([str(digit) for digit in range(10)], 50, 40),
    "faces": (["face", "other"], 60, 40),
    "textures": (["brick", "grass", "gravel"], 120, 60),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("samples")
    return lambda name: write_samples(name, folder)


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def pixels(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pictures below `folder`/CLASS, (n, SIDE * SIDE), and their classes, (n,)."""
    paths = sorted(folder.rglob("*.png"))
    rows = [np.asarray(Image.open(path), dtype=float).ravel() for path in paths]
    return np.stack(rows), np.array([path.parent.name for path in paths])


def broken(seed: int) -> Iterator[Sample]:
    yield Sample("train", "a", "0", Image.new("L", (SIDE, SIDE)))
    raise OSError("disk full")


def test_every_set_is_expected() -> None:
    assert set(EXPECTED) == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_classes_and_counts(name: str, written: Callable[[str], Path]) -> None:
    classes, train, test = EXPECTED[name]
    folder = written(name)
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train"]
    for split, count in (("train", train), ("test", test)):
        found = {path.name: len(list(path.glob("*.png"))) for path in (folder / split).iterdir()}
        assert found == dict.fromkeys(classes, count)


@pytest.mark.parametrize("name", SAMPLES)
def test_pictures_are_square_and_gray(name: str, written: Callable[[str], Path]) -> None:
    for path in written(name).rglob("*.png"):
        with Image.open(path) as picture:
            assert (picture.size, picture.mode) == ((SIDE, SIDE), "L")


@pytest.mark.parametrize("name", SAMPLES)
def test_training_and_test_share_no_file(name: str, written: Callable[[str], Path]) -> None:
    folder = written(name)
    train, test = ({(p.parent.name, p.name) for p in (folder / split).rglob("*.png")} for split in ("train", "test"))
    assert not train & test


@pytest.mark.parametrize(("name", "least"), [("digits", 0.9), ("faces", 0.7)])
def test_labels_fit_the_pictures(name: str, least: float, written: Callable[[str], Path]) -> None:
    """The nearest training picture, by pixels, mostly has the class of the test picture."""
    train, known = pixels(written(name) / "train")
    test, truth = pixels(written(name) / "test")
    distance = (train**2).sum(1) - 2 * test @ train.T
    assert (known[distance.argmin(1)] == truth).mean() >= least


def test_textures_show_the_tile_they_name(written: Callable[[str], Path]) -> None:
    for path in written("textures").rglob("*.png"):
        row, column = (int(place) * textures.TILE for place in path.stem.split("-"))
        source = Path(skimage.__file__).parent / "data" / f"{path.parent.name}.png"
        whole = np.asarray(Image.open(source))
        tile = whole[row : row + textures.TILE, column : column + textures.TILE]
        assert np.asarray(Image.open(path)).mean() == pytest.approx(tile.mean(), abs=1)


def test_texture_areas_do_not_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a photograph whose gray level is its row, training and test levels stay a tile's height apart."""
    rows = np.linspace(0, 1, 512)[:, None].repeat(512, 1)
    monkeypatch.setattr(textures, "photograph", lambda name: rows)
    levels: dict[str, list[int]] = {"train": [], "test": []}
    for sample in SAMPLES["textures"](0):
        levels[sample.split] += [int(level) for level in np.unique(np.asarray(sample.picture))]
    assert (min(levels["test"]) - max(levels["train"])) / 255 * 512 >= textures.TILE


@pytest.mark.parametrize("name", SAMPLES)
def test_seed_decides(name: str, written: Callable[[str], Path], tmp_path: Path) -> None:
    first = pictures(written(name))
    assert pictures(write_samples(name, tmp_path)) == first
    other = write_samples(name, tmp_path, seed=1)
    assert pictures(other).keys() != first.keys()
    assert other != tmp_path / f"{name}-0"


@pytest.mark.parametrize("name", SAMPLES)
def test_needs_no_network(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("tried to open a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    assert write_samples(name, tmp_path).is_dir()


def test_second_call_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_samples("faces", tmp_path)
    monkeypatch.setitem(SAMPLES, "faces", broken)
    assert write_samples("faces", tmp_path) == first


def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLES, "faces", broken)
    with pytest.raises(SnowError, match="faces samples.*disk full"):
        write_samples("faces", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_two_writers_the_first_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(seed: int) -> Iterator[Sample]:
        yield Sample("train", "late", "0", Image.new("L", (SIDE, SIDE)))
        (tmp_path / "faces-0" / "train" / "early").mkdir(parents=True)

    monkeypatch.setitem(SAMPLES, "faces", overtaken)
    folder = write_samples("faces", tmp_path)
    assert [path.name for path in (folder / "train").iterdir()] == ["early"]
    assert list(tmp_path.iterdir()) == [folder]


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="use one of digits, faces, textures"):
        write_samples("cats", tmp_path)
    with pytest.raises(SnowError, match="seed -1 is negative"):
        write_samples("faces", tmp_path, seed=-1)
    (tmp_path / "file").touch()
    with pytest.raises(SnowError, match="cannot write the faces samples"):
        write_samples("faces", tmp_path / "file")
    (tmp_path / "faces-0").touch()
    with pytest.raises(SnowError, match="cannot write the faces samples"):
        write_samples("faces", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces-0", "file"]
