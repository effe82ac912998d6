"""The scripts in `examples/` run, on few and small images."""

from __future__ import annotations

import runpy
import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snow.data import samples
from snow.hub import Hub
from snow.methods import METHODS

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
PER_CLASS = 2
PATIENCE = 60
"""Seconds."""

Run = Callable[..., list[str]]


def few(name: str) -> Callable[[int], Iterator[samples.Sample]]:
    """Limit a set of samples to `PER_CLASS` images per class and part."""
    draw, counts = samples.SAMPLES[name], {}

    def drawn(seed: int) -> Iterator[samples.Sample]:
        counts.clear()
        for sample in draw(seed):
            key = sample.split, sample.label
            counts[key] = counts.get(key, 0) + 1
            if counts[key] <= PER_CLASS:
                yield sample

    return drawn


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """`run(name, *arguments)`: run an example in an empty folder. Returns the lines that it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in samples.SAMPLES:
        monkeypatch.setitem(samples.SAMPLES, name, few(name))
    methods = dict(METHODS)

    def run_script(name: str, *arguments: str) -> list[str]:
        [path] = [path for path in EXAMPLES if path.stem == name]
        monkeypatch.setattr(sys, "argv", [path.name, *arguments])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    yield run_script
    METHODS.clear()
    METHODS.update(methods)


SMALL = ("--image-size", "32", "--epochs", "1")


def test_train_and_predict(run: Run) -> None:
    accuracy, parameters, *predictions = run("train_and_predict", *SMALL)
    assert accuracy.startswith("top-1 accuracy on test images: ")
    assert parameters.startswith("trained parameters: ")
    assert len(predictions) == 3
    assert all(": example is " in line for line in predictions)
    assert Hub.open("example-hub").names() == ["example"]


def test_several_label_columns(run: Run) -> None:
    digit, parity, size, prediction = run("several_label_columns", *SMALL)
    assert digit.startswith("digit: 10 classes, ")
    assert parity.startswith("parity: 2 classes, ")
    assert size.startswith("size: 2 classes, ")
    assert all(name in prediction for name in ("digit", "parity", "size"))
    hub = Hub.open("example-hub")
    assert hub.names() == ["digit", "parity", "size"]
    data = {name: hub.task(name).training["data"] for name in hub.names()}
    assert data["digit"]["train_images"] == data["parity"]["train_images"] > data["size"]["train_images"]


def test_own_method(run: Run) -> None:
    probe, own = run("own_method", *SMALL)
    assert probe.startswith("fo: top-1 accuracy ")
    assert own.startswith("tap_probe: top-1 accuracy ")
    task = Hub.open("example-hub").task("tap_probe")
    assert task.method.config == {"tap": -3}
    assert task.method.learned_parameters > 0


def test_client(run: Run) -> None:
    run("train_and_predict", *SMALL)
    images = sorted(map(str, Path("example-hub/samples/textures-0/test").rglob("*.png")))[:2]
    expected = Hub.open("example-hub").predict(images)
    damaged = Path(shutil.copytree("example-hub/tasks/example", "example-hub/tasks/damaged"))
    (damaged / "model.safetensors").write_bytes(b"")
    with serving(Path("example-hub")) as url:
        ranked = run("client", "--url", url, "--top-k", "2", *images)
        with pytest.raises(SystemExit, match="unknown_task: "):
            run("client", "--url", url, "--tasks", "unknown", *images)
    failed = [line for line in ranked if ": damaged failed: " in line]
    succeeded = [line for line in ranked if line not in failed]
    assert [line.partition(": ")[0] for line in failed] == [line.partition(": ")[0] for line in succeeded] == images
    for line, predictions in zip(succeeded, expected, strict=True):
        assert f": example is {predictions['example'].classes[0]} (" in line
        assert line.count("%") == 2


@contextmanager
def serving(hub: Path) -> Generator[str]:
    """A service over a hub, in a thread of this process. Yields its URL."""
    uvicorn = pytest.importorskip("uvicorn")
    from snow.serving.app import create_app
    from snow.serving.service import Service

    app = create_app(Service(Hub.open(hub, engine="auto")))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + PATIENCE
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.05)
        [port] = {socket.getsockname()[1] for group in server.servers for socket in group.sockets}
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) < 60
    assert f"python examples/{path.name}" in text.split('"""')[1]


def test_every_example_is_tested() -> None:
    tests = Path(__file__).read_text("utf-8")
    assert len(EXAMPLES) == 4
    assert all(f"def test_{path.stem}(" in tests for path in EXAMPLES)
