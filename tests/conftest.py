"""What every test may use: tiny frozen sources, pictures that can be learned, and folders of them."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import hypothesis
import pytest

if TYPE_CHECKING:  # the process that hands tests out to others needs none of these: imported here, they delay its start
    from torch import Tensor

    from snow.source import Source

SIZE = 64
TINY = ("test_resnet", "test_efficientnet", "test_convnext")
COLOURS = ((220, 60, 60), (60, 220, 60), (60, 60, 220), (200, 200, 40), (40, 200, 200), (200, 40, 200))


sys.path.insert(0, str(Path(__file__).parent))

gc.set_threshold(50_000, 20, 20)  # a full collection goes through all objects of torch, timm and the tests

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=40, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is compiled, calibrated and measured here stays here."""
    before = os.environ.get("SNOW_CACHE")
    os.environ["SNOW_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("SNOW_CACHE")
    if before is not None:
        os.environ["SNOW_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def measured_engines() -> Iterator[Callable[[Any], Any]]:
    """The automatic engine runs methods in ways that do not depend on this machine. Returns what measures them."""
    from snow.inference import auto

    def measured(_engine: auto.AutoEngine) -> dict[str, dict[str, float]]:
        few, many = {"folded": 0.0}, {"stacked": 0.0}
        return {f"{tasks}x{images}": many if tasks > 1 else few for tasks in auto.TASKS for images in auto.PICTURES}

    with pytest.MonkeyPatch.context() as patch:
        real = auto.AutoEngine._measured
        patch.setattr(auto.AutoEngine, "_measured", measured)
        yield real


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def make_source() -> Callable[..., Source]:
    """A new timm CNN with random weights that depend on nothing but `seed`; `options` go to `Source.from_timm`."""
    import torch
    from torch import nn

    from snow.source import Source

    def make(name: str = TINY[0], seed: int = 0, image_size: int = SIZE, **options: object) -> Source:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            source = Source.from_timm(name, **{"pretrained": False, "image_size": image_size, **options})
        for module in source.cnn.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
                module.weight.fill_(0.5)  # timm starts residual branches at zero: they would be dead for good
        return source

    return make


@pytest.fixture(scope="session")
def tiny_sources(make_source: Callable[..., Source]) -> dict[str, Source]:
    """A ResNet, an EfficientNet and a ConvNeXt by name, shared by all tests: never change them."""
    return {name: make_source(name) for name in TINY}


@pytest.fixture(scope="session", params=TINY)
def source(request: pytest.FixtureRequest, tiny_sources: dict[str, Source]) -> Source:
    """Each of `tiny_sources` in turn."""
    return tiny_sources[request.param]


@pytest.fixture(scope="session")
def resnet(tiny_sources: dict[str, Source]) -> Source:
    """The first of `tiny_sources`, for what does not depend on the kind of source."""
    return tiny_sources[TINY[0]]


@pytest.fixture(scope="session")
def weightless() -> Callable[..., Source]:
    """`weightless(spec, size)`: what a plan asks of a source, without weights, where a dry run costs next to nothing.

    It has the CNN on the meta device, the taps, and 1000 final features.
    """
    import timm
    import torch
    from torchvision import models

    from snow.source import discover

    @cache
    def opened(spec: str, size: int) -> Source:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library, _, name = spec.rpartition("/")
            cnn = models.get_model(name, weights=None) if library else timm.create_model(name)
        return cast("Source", SimpleNamespace(cnn=cnn, taps=discover(cnn, size), num_features=1000))

    return lambda spec, size=SIZE: opened(spec, size)


def coloured(count: int, classes: int = 3, size: int = SIZE, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures whose class is their colour under noise: uint8 (n, 3, S, S), (n,)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    noise = torch.randint(-40, 41, (count, 3, size, size), generator=generator)
    return (torch.tensor(COLOURS)[labels][:, :, None, None] + noise).clamp(0, 255).byte(), labels


@pytest.fixture(scope="session")
def draw() -> Callable[..., tuple[Tensor, Tensor]]:
    """`draw(count, classes)`: see `coloured`."""
    return coloured


@pytest.fixture(scope="session")
def write_folder(draw: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Path]:
    """Writes an image folder that can be learned: `folder/train/CLASS/N.png` and `folder/test/CLASS/N.png`.

    `train` and `test` count the pictures of each class; with `test=0` it is `folder/CLASS/N.png` alone.
    """
    from PIL import Image

    def write(
        folder: Path,
        classes: tuple[str, ...] = ("blue", "green", "red"),
        train: int = 8,
        test: int = 4,
        size: int = SIZE,
        seed: int = 0,
    ) -> Path:
        splits = {"train": train, "test": test} if test else {"": train}
        for number, (split, count) in enumerate(splits.items()):
            images, labels = draw(count * len(classes), len(classes), size, 2 * seed + number)
            for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                path = folder / split / classes[label] / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
        return folder

    return write


@pytest.fixture(scope="session")
def write_tree() -> Callable[[str, Path], Path]:
    """Writes one of the paper's data sets, three classes of it, as `root/FOLDER` in the layout of its authors."""

    def write(name: str, root: Path) -> Path:
        from trees import TREES, Tree

        folder, fill = TREES[name]
        fill(Tree(root / folder, coloured))
        return root / folder

    return write


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes measurements in this process in the place of fresh ones. What is called must be picklable all the same."""

    def call(_name: str, work: Callable[[], Any]) -> Any:
        return pickle.loads(pickle.dumps(work))()

    monkeypatch.setattr("snow.process.subprocesses.in_subprocess", call)
    monkeypatch.setattr("snow.experiments.step_cost.in_subprocess", call)


@pytest.fixture
def wait() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine. One that waits for what never happens is an error, after more time than any machine needs."""

    def run(work: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(300):
                await work

        asyncio.run(bounded())

    return run
