"""The writers that `kills.py` kills, and the hub that they work on."""

from __future__ import annotations

import os
import random
import signal
import socket
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TextIO
from zipfile import ZipFile

import torch
from PIL import Image

from snow import Artifact, Dataset, Hub, MismatchError, Recipe, Runtime, Source, open_dataset, train
from snow.methods import METHODS
from snow.serving.access import Address
from snow.serving.limits import Limits
from snow.serving.server import serve
from snow.serving.service import Service

SIZE = 32
TOKEN = "a token that nobody can guess"
START_SECONDS = 120.0
RECIPE = {"epochs": 2, "batch_size": 4, "calibration": 8, "precision": "32"}


@dataclass(frozen=True)
class Ground:
    """What the writers work on.

    Attributes:
        dataset: of the task that is trained.
        uploads: folder of temporary files.
    """

    path: Path
    source: Source
    dataset: Dataset
    uploads: Path

    @classmethod
    def make(cls, folder: Path) -> Ground:
        """Make the hub, with a task `kept` that nobody touches, and 16 pictures to learn from."""
        torch.manual_seed(0)
        source = Source.from_timm("test_resnet", pretrained=False, image_size=SIZE)
        source.weights = "kills.pth"
        draw = random.Random(0)
        for number in range(16):
            split, label = "test" if number % 4 == 3 else "train", "ab"[number // 8]
            picture = folder / "pictures" / split / label / f"{number}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.frombytes("RGB", (SIZE, SIZE), draw.randbytes(3 * SIZE * SIZE)).save(picture)
        ground = cls(folder / "hub", source, open_dataset(folder / "pictures", task="train"), folder / "uploads")
        ground.uploads.mkdir()
        Hub.create(ground.path, source).add(ground.artifact("kept", 0))
        return ground

    def hub(self) -> Hub:
        return Hub(self.path, self.source, engine="eager")  # its answers are compared bit by bit

    def artifact(self, name: str, version: int) -> Artifact:
        """Make a task whose weights depend on its version, which it records as its seed."""
        torch.manual_seed(version)
        method = METHODS["snow"].build(self.source, 2).export_form()
        with torch.no_grad():
            for value in method.parameters():
                value.add_(0.1 * torch.randn_like(value))
        return Artifact(name, ("one", "two"), method, self.source.description(), training={"seed": version})

    def unfinished(self) -> list[str]:
        """List the folders of writers that have not finished."""
        return [path.name for path in (self.path / "tasks").iterdir() if path.name.startswith(".")]

    def spools(self) -> list[str]:
        """List the folders of services."""
        return [path.name for path in self.uploads.iterdir()]


class Pipe:
    """Where a writer reports."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def begin(self, version: int) -> None:
        print("begun", version, file=self._file, flush=True)

    def done(self, version: int) -> None:
        print("done", version, file=self._file, flush=True)


def add_and_remove(ground: Ground, pipe: Pipe, versions: Iterable[int]) -> None:
    """Odd versions: the task is there; even ones: it is not."""
    hub = ground.hub()
    for version in versions:
        artifact = ground.artifact("add", version)
        pipe.begin(version)
        if version % 2:
            hub.add(artifact)
        else:
            hub.remove("add")
        pipe.done(version)


def replace(ground: Ground, pipe: Pipe, versions: Iterable[int]) -> None:
    hub = ground.hub()
    for version in versions:
        artifact = ground.artifact("replace", version)
        pipe.begin(version)
        hub.add(artifact, replace=True)
        pipe.done(version)


def train_again(ground: Ground, pipe: Pipe, versions: Iterable[int]) -> None:
    hub, runtime = ground.hub(), Runtime(workers=0, checkpoint_seconds=0.0)
    for version in versions:
        recipe = Recipe(**RECIPE, seed=version)
        pipe.begin(version)
        try:
            train(hub, ground.dataset, recipe, runtime=runtime, resume=True, replace=True)
        except MismatchError:  # the checkpoint is of the version before, which is in the hub
            train(hub, ground.dataset, recipe, runtime=runtime, replace=True)
        pipe.done(version)


def upload(ground: Ground, url: str, pipe: Pipe, versions: Iterable[int]) -> None:
    """Send versions of a task to a service until it is gone."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/zip"}
    for version in versions:
        content = zipped(ground.artifact("put", version))
        pipe.begin(version)
        request = urllib.request.Request(f"{url}/v1/tasks/put", content, headers, method="PUT")
        with suppress(OSError), urllib.request.urlopen(request, timeout=60) as response:
            response.read()
            pipe.done(version)
            continue
        return


def zipped(artifact: Artifact) -> bytes:
    file = BytesIO()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, ZipFile(file, "w") as archive:
        artifact.write(Path(folder))
        for path in Path(folder).iterdir():
            archive.write(path, path.name)
    return file.getvalue()


def run_service(ground: Ground, port: int) -> None:
    """Serve the hub in this process, and print nothing."""
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    serve(Service(ground.hub(), Limits(decoders=1)), Address(port=port), TOKEN)


def start_service(ground: Ground) -> tuple[int, str]:
    """Start a service in a process of its own and wait until it is ready. Returns its number and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pid, until = forked(lambda: run_service(ground, port)), time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
            return pid, f"http://127.0.0.1:{port}"
        time.sleep(0.02)
    raise RuntimeError("the service does not start")


def forked(work: Callable[[], object]) -> int:
    """Start a process that does some work and ends. Returns its number."""
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid


class Writer:
    """A writer at work in a process of its own; `victim` is the process to kill.

    Args:
        versions: those that it writes, one after the other.
    """

    def __init__(self, ground: Ground, kind: str, versions: Iterable[int]) -> None:
        self.kind = kind
        readable, writable = os.pipe()

        def work() -> None:
            with os.fdopen(writable, "w") as file:
                victim, url = start_service(ground) if kind == "put" else (os.getpid(), "")
                print(victim, file=file, flush=True)
                if kind == "put":
                    upload(ground, url, Pipe(file), versions)
                    os.kill(victim, signal.SIGTERM)
                    os.waitpid(victim, 0)
                else:
                    WRITERS[kind](ground, Pipe(file), versions)

        self._pid = forked(work)
        os.close(writable)
        self._pipe = os.fdopen(readable)
        self.victim = int(self._pipe.readline())

    def kill(self) -> dict[str, int]:
        """Kill the writer. Returns the last version that it has `begun`, and the last that is `done`."""
        os.kill(self.victim, signal.SIGKILL)
        return self.wait(0 if self.kind == "put" else signal.SIGKILL)

    def wait(self, expected: int = 0) -> dict[str, int]:
        """Wait for its end, and return what `kill` does."""
        status = os.waitpid(self._pid, 0)[1]
        if status != expected:
            raise RuntimeError(f"the writer {self.kind} ended by itself: {status}")
        with self._pipe:
            return {what: int(version) for what, version in map(str.split, self._pipe)}


WRITERS = {"add, remove": add_and_remove, "replace": replace, "train": train_again}
