"""Kill writers of a hub at random moments: nothing that was reported may be lost, nothing may be left over.

Two writers work on one small hub at the same time, in turns of four pairs, until each is killed by SIGKILL at a random
moment:

    add, remove   adds a task and removes it, again and again
    replace       replaces a task
    train         trains a task and replaces it, and first resumes what the killed run has left
    put           a service that another process sends versions of a task to, by PUT

A writer reports each version that it begins, and each that is done. After each two kills there must be no

    lost          the version in the hub is neither the last that was done nor the one that was begun
    mixed         a task is not what its record says, or a task that nobody touched answers otherwise
    left over     the next writer has not removed what a killed one left: folders, uploads, checkpoints, processes

    python benchmarks/kills.py --kills 300 --out benchmarks/results/kills.json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path

import torch
from killed_writers import SIZE, Ground, Writer

from snow.experiments.results.record import provenance
from snow.hub.task_files import read_config
from snow.process.threads import on_one_core
from snow.store import atomic_file, write_json

NAMES = {"add, remove": "add", "replace": "replace", "train": "train", "put": "put"}
"""Writer -> its task."""
SECONDS = {"add, remove": 0.15, "replace": 0.15, "train": 2.5, "put": 0.6}
"""Longest time until a kill: a few times what one version takes."""
PAIRS = (("add, remove", "replace"), ("train", "replace"), ("replace", "add, remove"), ("put", "add, remove"))


class Experiment:
    """Kills writers and counts what goes wrong."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self.ground, self.random = ground, random.Random(seed)
        self.versions = dict.fromkeys(NAMES, 0)
        self.kills, self.interrupted = Counter[str](), Counter[str]()
        self.faults = Counter[str]({"lost": 0, "mixed": 0, "left over": 0})
        self.images = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
        self.expected = ground.hub().logits(self.images, ["kept"])["kept"]

    def round(self, kinds: tuple[str, str]) -> None:
        """Let two writers work, kill both, and check."""
        writers = [Writer(self.ground, kind, count(self.versions[kind] + 1)) for kind in kinds]
        if "put" in kinds:
            self.count("left over", self.ground.spools()[1:], kinds)
        moments = {writer.kind: self.random.uniform(0, SECONDS[writer.kind]) for writer in writers}
        started = time.perf_counter()
        for writer in sorted(writers, key=lambda writer: moments[writer.kind]):
            time.sleep(max(0.0, moments[writer.kind] - (time.perf_counter() - started)))
            reported = writer.kill()
            self.kills[writer.kind] += 1
            self.settle(writer.kind, reported)
        self.interrupted["folders"] += len(self.ground.unfinished())
        self.check(kinds)

    def settle(self, kind: str, reported: dict[str, int]) -> None:
        """Compare the version in the hub with those that its writer reported, and go on from it."""
        name, store = NAMES[kind], self.ground.hub().tasks.store
        allowed = {reported.get("done", self.versions[kind]), reported.get("begun", self.versions[kind])}
        self.interrupted["versions"] += len(allowed) - 1
        if store.has(name):
            version = store.read(name, read_config)["training"]["seed"]
        else:
            version = min((v for v in allowed if v == 0 or (kind == "add, remove" and not v % 2)), default=-1)
        self.count("lost", [] if version in allowed else [f"{name}: {version}, not one of {allowed}"], kind)
        self.versions[kind] = version if version in allowed else max(allowed)

    def check(self, kinds: object) -> None:
        """Check every task, and what is left after the start of the next writer."""
        hub = self.ground.hub()
        with hub.tasks.store.locked():
            self.count("left over", self.ground.unfinished(), kinds)
        is_same = torch.equal(hub.logits(self.images, ["kept"])["kept"], self.expected)
        damaged = [name for name, verdict in hub.verify().items() if verdict.differences or not verdict.recorded]
        self.count("mixed", damaged + ([] if is_same else ["kept"]), kinds)

    def finish(self) -> None:
        """Let every writer write one more version and end, and check that nothing is left of all that were killed."""
        for kind in NAMES:
            version = self.versions[kind] + 1
            self.settle(kind, Writer(self.ground, kind, [version]).wait())
        self.check("the end")
        runs = [str(path) for path in (self.ground.path / "runs").rglob("*") if path.name != NAMES["train"]]
        self.count("left over", [*self.ground.spools(), *orphans(self.ground.uploads), *runs], "the end")

    def count(self, fault: str, problems: list[str], where: object) -> None:
        if problems:
            print(f"{fault} after {where}: {', '.join(problems)}", flush=True)
            self.faults[fault] += len(problems)


def orphans(uploads: Path, seconds: float = 10.0) -> list[str]:
    """List the programs that services started and that do not end within some seconds."""
    needle, until = f"TMPDIR={uploads}".encode(), time.monotonic() + seconds
    while True:
        names = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if needle in (process / "environ").read_bytes().split(b"\0"):
                    names.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80])
        if not names or time.monotonic() > until:
            return names
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("snow").setLevel(logging.CRITICAL)
    on_one_core()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground.make(Path(folder))
        os.environ["TMPDIR"] = tempfile.tempdir = str(ground.uploads)
        experiment = Experiment(ground, arguments.seed)
        for number in range(arguments.kills // 2):
            experiment.round(PAIRS[number % len(PAIRS)])
        experiment.finish()
    results = {"kills": dict(experiment.kills), "interrupted": experiment.interrupted, "faults": experiment.faults}
    results |= {"written": experiment.versions, "seed": arguments.seed}
    results |= {"seconds": round(time.perf_counter() - started, 1), **provenance()}
    print(json.dumps(results, indent=2))
    if arguments.out:
        with atomic_file(arguments.out) as new:
            write_json(new, results)
    sys.exit(any(experiment.faults.values()))


if __name__ == "__main__":
    main()
