"""Flip single bits in the files of one task and of the source of a small hub: each must be named or harmless.

A hub with two tasks is made on a tiny source with its own weights. Then, for each flip of one bit in one file, the hub
is listed, opened, asked about a picture, compared with it and verified:

    named      the flipped file's task, or the source, is left out or reported with one line that says why
    harmless   everything answers as before
    unnoticed  something answers otherwise than before, and nothing says so
    crash      anything but a `SnowError` is raised, or another task does not answer as before

    python benchmarks/bit_flips.py --flips 2000 --out benchmarks/results/bit-flips.json
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from snow import Artifact, Hub, SnowError, Source
from snow.experiments.results.record import provenance
from snow.hub.folder import read_selection_history
from snow.hub.listing import summaries
from snow.inference import Failure
from snow.inference.appearance import appearance
from snow.inference.drift import Drift
from snow.inference.familiarity import Familiarity
from snow.inference.reference import Traits
from snow.methods import METHODS
from snow.source import FINAL
from snow.store import atomic_file, write_json
from snow.subscribe import SelectionHistory

CLASSES = ("ant", "bee", "wasp")
FLIPPED, OTHER = "flipped", "other"
SIZE = 64


def make_hub(path: Path) -> Hub:
    """Make a hub with tasks `flipped` and `other` of method snow, with random weights and all that a task may keep."""
    torch.manual_seed(0)
    source = Source.from_timm("test_resnet", pretrained=False, image_size=SIZE)
    source.weights = "flips.pth"  # so that the hub stores the weights
    hub = Hub.create(path, source)
    pictures = torch.rand(60, 3, SIZE, SIZE)
    with torch.no_grad():
        final = source(pictures, frozenset()).final
    familiarity = Familiarity.fit(final, torch.arange(60) % len(CLASSES), appearance=appearance(pictures))
    for name in (FLIPPED, OTHER):
        method = METHODS["snow"].build(source, len(CLASSES)).export_form()
        with torch.no_grad():
            for value in method.parameters():
                value.add_(0.1 * torch.randn_like(value))
        history = SelectionHistory(torch.arange(4), 2, {FINAL: torch.rand(4, source.num_features) < 0.5})
        metrics = {"test": {"top1": 0.75, "top5": 1.0, "images": 40}, "history": [{"epoch": 1, "loss": 0.5}]}
        training = {"recipe": {"lr": 0.1}}
        hub.add(
            Artifact(name, CLASSES, method, source.description(), metrics, training, history, familiarity=familiarity)
        )
    return hub


def observe(path: Path, source: Source | None, images: torch.Tensor) -> tuple[dict[str, Any], list[str]]:
    """Do what users do with a hub. Returns what was answered, by task and action, and all reports of damage.

    Args:
        source: an open source, to save time where its files were not changed; None opens that of the hub.
    """
    told: list[str] = []
    answers: dict[str, Any] = {}
    for entry in summaries(path, lambda name, error: told.append(f"{name}: {error}")):
        answers[f"{entry['task']}/list"] = entry
    hub = Hub(path, source) if source is not None else Hub.open(path)
    told += [f"{name}: {why}" for name, why in hub.broken().items()]
    requests = hub.tasks.requests(hub.tasks.all_names(), required=False)
    for name, prediction in hub.predictor.run(images, [requests], with_traits=True)[0].items():
        if isinstance(prediction, Failure):
            told.append(prediction.error)
        else:
            answers[f"{name}/predict"] = prediction.to_dict()
            if prediction.known is not None and isinstance(prediction.traits, Traits):
                answers[f"{name}/drift"] = asdict(Drift.of([prediction.known], [prediction.traits]))
            answers[f"{name}/metrics"] = hub.task(name).metrics
    for name in hub.names():
        try:
            history = read_selection_history(path, name)
            answers[f"{name}/choice"] = {tap: history.summary(tap) for tap in history.masks}
        except SnowError as error:
            told.append(f"{name}: {error}")
    for name, verification in hub.verify().items():
        told += [f"{name}: {difference.why}" for difference in verification.differences]
    return answers, told


def judge(path: Path, file: Path, source: Source, images: torch.Tensor, before: dict[str, Any]) -> str:
    """Judge the hub at `path` after a change in `file`."""
    of_source = file.parent == path
    try:
        answers, told = observe(path, None if of_source else source, images)
    except SnowError:
        return "named" if of_source else "crash"
    except Exception:
        logging.getLogger(__name__).exception("%s", file)
        return "crash"
    kept = [key for key in before if key.startswith(OTHER)]
    if any(answers.get(key) != before[key] for key in kept) and not (of_source and told):
        return "crash"
    if told:
        return "named"
    return "harmless" if answers == before else "unnoticed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("snow").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    draw, started = random.Random(arguments.seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hub"
        hub = make_hub(path)
        images = torch.randint(0, 256, (1, 3, SIZE, SIZE), dtype=torch.uint8)
        before, told = observe(path, hub.source, images)
        assert not told, told
        files = [*sorted(hub.folder(FLIPPED).iterdir()), path / "source.json", path / "source.safetensors"]
        counts = {file.name: Counter[str]() for file in files}
        for number in range(arguments.flips):
            file = files[number % len(files)]
            content = file.read_bytes()
            place = draw.randrange(8 * (len(content) if draw.random() < 0.5 else min(len(content), 4096)))
            changed = bytearray(content)
            changed[place // 8] ^= 1 << place % 8
            file.write_bytes(changed)
            verdict = judge(path, file, hub.source, images, before)
            counts[file.name][verdict] += 1
            if verdict in ("crash", "unnoticed"):
                print(f"{verdict}: bit {place % 8} of byte {place // 8} of {file.name}")
            file.write_bytes(content)
    total = sum(counts.values(), Counter[str]())
    results = {"flips": arguments.flips, "seed": arguments.seed, "total": dict(total), "files": counts}
    results |= {"seconds": round(time.perf_counter() - started, 1), **provenance()}
    print(json.dumps({name: dict(count) for name, count in counts.items()}, indent=2), dict(total))
    if arguments.out:
        with atomic_file(arguments.out) as new:
            write_json(new, results)


if __name__ == "__main__":
    main()
