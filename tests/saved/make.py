"""Writes what version 0.1.0 saved; kept to show how the data came to be; runs with 0.1.0 only."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import sqlite3
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from small import COMMANDS, HERE, HUBS, RECIPE, SIZE, STOPPED, answers, choices, colours, write_colours
from snow.bench import apart as bench
from snow.training.interrupt import Interrupted

from snow import Hub, Recipe, Source, __version__, train
from snow.cli import main
from snow.training.listeners import Listener

FINE = {"finest": 4, "keep": 0.5}
BARE = {**FINE, "readout": 0.0}

PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "fe": ("fe", {}),
    "fo": ("fo", {}),
    "ft": ("ft", {}),
    "head2toe": ("head2toe", {"features": 32, "keep": 0.5}),
    "lf": ("lf", {}),
    "lf-second": ("lf", {"earlier": "lf"}),
    "lora": ("lora", {"rank": 2}),
    "mp": ("mp", {}),
    "mp-both": ("mp", {"patch": "both", "statistics": "source"}),
    "pn": ("pn", {}),
    "pn-second": ("pn", {"earlier": "pn"}),
    "snow": ("snow", {}),
    "snow-all": ("snow", {**FINE, "subscription": "all"}),
    "snow-attention": ("snow", {**FINE, "subscription": "channel_attention"}),
    "snow-before": ("snow", {**BARE, "patchify": False, "rank": 0}),
    "snow-conv1x1": ("snow", {**FINE, "subscription": "conv1x1"}),
    "snow-directions": ("snow", {**FINE, "rank": 2}),
    "snow-norm": ("snow", {**BARE, "pooling": {"slots": "index", "norm": True, "relu": True}}),
    "snow-paper": ("snow", {"preset": "paper"}),
    "snow-relu": ("snow", {**BARE, "pooling": {"relu": True, "rescale": False, "init": "normal"}}),
    "snow-stem": ("snow", {**FINE, "patchify": False}),
}
TASKS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "plain": PLAIN,
    "basic": {"snow-paper": ("snow", {"preset": "paper", "readout": 1.0})},
    "bottleneck": {"snow": ("snow", FINE)},
    "embedded": {"snow": ("snow", {"finest": 16, "keep": 0.02, "final_keep": 0.02, "width": 0.01})},
}
TAPS = ["blocks.3.0.bn2", "blocks.4.0.bn2"]
"""Of the embedded source: with all of its maps a task would be large."""


class Stop(Listener):
    """Asks a run to stop after its fourth step, the first of the second epoch."""

    def on_step(self, report: Any) -> None:
        if report.step == 4:
            os.kill(os.getpid(), signal.SIGINT)


def new_hub(folder: Path) -> Hub:
    torch.manual_seed(0)
    if folder.name == "embedded":
        return Hub.create(folder, Source.embedded(32, taps=TAPS))
    source = Source.from_timm(f"saved_{folder.name}", pretrained=False, image_size=SIZE)
    for module in source.cnn.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    return Hub.create(folder, source)


def fill(hub: Hub) -> None:
    size = hub.source.preprocessing.image_size
    for name, (method, options) in TASKS[hub.path.name].items():
        config = dict(options)
        if "earlier" in config:
            config["earlier"] = {config["earlier"]: hub.task(config["earlier"]).method}
        train(hub, colours(name, size), Recipe.from_dict(RECIPE), method=method, config=config)
    shutil.rmtree(hub.path / "runs", ignore_errors=True)


def forget_what_is_new(hub: Hub) -> None:
    """Makes a task what it was before these options, and the record of what it is, were there."""
    folder = hub.folder("snow-before")
    config = json.loads((folder / "config.json").read_text())
    for option in ("patchify", "readout", "rank"):
        del config["config"]["options"][option]
    del config["config"]["plan"]["patchify"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "fingerprint.json").unlink()
    (folder / "choice.safetensors").unlink()


def copy_one(hub: Hub) -> None:
    """A task under another name, saved by itself first."""
    with tempfile.TemporaryDirectory() as place:
        hub.task("fo").save(Path(place) / "fo")
        hub.copy(Path(place) / "fo", "fo-copied")


def stop_one(hub: Hub) -> None:
    try:
        train(hub, colours("stopped"), Recipe.from_dict(RECIPE), config=STOPPED, listeners=[Stop()])
    except Interrupted:
        return
    raise SystemExit("the run was not stopped")


def pack(hub: Hub) -> None:
    with (
        gzip.GzipFile(HERE / f"{hub.path.name}.tar.gz", "wb", mtime=0) as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        for path in sorted(hub.path.rglob("*")):
            if path.is_file() and path.name != ".lock":
                entry = tarfile.TarInfo(str(path.relative_to(hub.path.parent)))
                entry.size = path.stat().st_size
                tar.addfile(entry, path.open("rb"))


def write_results() -> None:
    """In the folder that this process is in."""
    bench.apart = lambda _, call: call()  # in this process, which knows the CNN
    for folder in ("colours", "dtd10"):
        write_colours(Path(folder))
    for arguments in COMMANDS.values():
        sys.argv = ["snow", *arguments]
        if main(arguments):
            raise SystemExit(f"it failed: {' '.join(arguments)}")
    measure = "bench serving --source=saved_plain --image-size=16 --batch-size=2 --rounds=1 --tasks=1,3 --sizes=1,2"
    sys.argv = ["snow", *measure.split(), "--out=results/serving.json"]
    if main(sys.argv[1:]):
        raise SystemExit("it failed: bench serving")
    for path in [*Path("results").rglob("*.png"), *Path("results").rglob("*.md"), *Path("results").rglob(".*")]:
        path.unlink()
    with sqlite3.connect("results/sweep.db") as study:
        study.execute("PRAGMA page_size = 512")  # a fifth of the bytes
        study.execute("VACUUM")
    shutil.rmtree(HERE / "results", ignore_errors=True)
    shutil.copytree("results", HERE / "results")


def make() -> None:
    """In an empty folder that this process is in."""
    hubs = [new_hub(Path(name)) for name in HUBS]
    for hub in hubs:
        fill(hub)
        if hub.path.name == "plain":
            forget_what_is_new(hub)
            copy_one(hub)
            stop_one(hub)
        pack(hub)
    save_file(answers(Path()), HERE / "expected.safetensors")
    (HERE / "choices.json").write_text(json.dumps(choices(Path())) + "\n")
    write_results()


if __name__ == "__main__":
    assert __version__ == "0.1.0"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        make()
        os.chdir(HERE)
