"""A script that kills writers of a store many times in the middle, and checks what each has left.

`python killed.py FOLDER ROUNDS SEED [two-steps]`; it needs no torch, so that a writer starts in a millisecond.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from snow.store import Store, files

FILES = ("config.json", "metrics.json", "model.safetensors")


def write(store: Store, name: str, version: int, replace: bool) -> None:
    with store.writing(name, replace) as folder:
        for file in FILES:
            (folder / file).write_text(f"{version} " * 100)


def version_of(folder: Path) -> int:
    """Read the version that all files of a folder hold, and check that each is complete."""
    (text,) = {(folder / file).read_text() for file in FILES}
    assert text == f"{text.split()[0]} " * 100
    return int(text.split()[0])


def replacing(store: Store, report: Callable[[int], None], start: int) -> None:
    for version in count(start + 1):
        write(store, "replaced", version, replace=True)
        report(version)


def coming_and_going(store: Store, report: Callable[[int], None], start: int) -> None:
    """Even: it is there; odd: it is not."""
    for version in count(start + 1):
        if version % 2:
            assert store.remove("coming")
        else:
            write(store, "coming", version, replace=False)
        report(version)


def forked(work: Callable[[Store, Callable[[int], None], int], None], store: Store, start: int) -> tuple[int, int]:
    """Start a process at work; return its id, and a pipe on which it reports each version that it has written."""
    readable, writable = os.pipe()
    parent, child = os.getpid(), os.fork()
    if not child:
        pipe = os.fdopen(writable, "w")

        def tell(version: int) -> None:
            assert os.getppid() == parent, "nobody is there to end it"
            print(version, file=pipe, flush=True)

        try:
            work(store, tell, start)
        finally:
            os._exit(1)
    os.close(writable)
    return child, readable


def kill(child: int, readable: int, start: int) -> int:
    """Kill a process. Return the last version that it reported."""
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it had ended by itself"
    with os.fdopen(readable) as pipe:
        return int([str(start), *pipe.read().split()][-1])


def main(folder: Path, rounds: int, seed: int) -> None:
    store = Store(folder / "tasks", folder / ".lock")
    chance = random.Random(seed)
    for name in ("kept", "replaced", "coming"):
        write(store, name, 0, replace=False)
    replaced = coming = mid = 0
    for _ in range(rounds):
        children = [forked(replacing, store, replaced), forked(coming_and_going, store, coming)]
        until = time.perf_counter() + chance.uniform(0, 0.008)
        while time.perf_counter() < until:  # a reader at the same time
            assert store.read("kept", version_of) == 0
            assert store.read("replaced", version_of) >= replaced
        first, second = chance.sample([0, 1], 2)
        reported = {first: kill(*children[first], (replaced, coming)[first])}
        reported[second] = kill(*children[second], (replaced, coming)[second])
        mid += any(path.name.startswith(".") for path in store.root.iterdir())
        version = store.read("replaced", version_of)
        assert reported[0] <= version <= reported[0] + 1, f"reported {reported[0]}, found {version}"
        replaced = version
        exists = store.has("coming")
        coming = reported[1] + (exists == bool(reported[1] % 2))
        assert not exists or store.read("coming", version_of) == coming, "one that was gone is back"
        assert store.read("kept", version_of) == 0
        assert set(store.names()) == {"kept", "replaced", *(["coming"] if exists else [])}
    with store.locked():
        assert {path.name for path in store.root.iterdir()} == set(store.names()), "something was left over"
    print(replaced, coming, mid)


if __name__ == "__main__":
    files.os.fsync = lambda _: None  # what a killed process leaves does not depend on it, and it takes most of the time
    if "two-steps" in sys.argv:
        files.exchange = lambda first, second: False
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
