"""`snow predict`."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from snow.cli.app import BAD_INPUT, command
from snow.cli.options import Flag, Json, Names
from snow.cli.output import note, print_json, print_table
from snow.data import decode, eval_transform, picture_files
from snow.data.decode import shown
from snow.errors import SnowError
from snow.hub import Hub
from snow.inference import SOURCE_HEAD, Failure, Prediction, encode
from snow.kinds import ClassKind, NumberPrediction
from snow.process.devices import find_device

BATCH = 32

FEW = 3
"""So many pictures are answered sooner by networks as they are: preparing one takes as long as some answers of it."""

Predictions = Mapping[str, Prediction | Failure]
"""Task -> its prediction for one picture."""

app = command("predict", "snow predict my-hub bee.jpg more-pictures/ --top-k 3")


@app.default
def predict(
    hub: Path,
    images: list[Path],
    /,
    *,
    tasks: Names = (),
    top_k: int = 5,
    source_head: Flag = False,
    reject: float = 0.0,
    device: str = "cpu",
    json: Json = False,
) -> int:
    """Classify pictures with all tasks of a hub, in one pass of the source.

    Pictures that cannot be read and tasks that fail are named on stderr. The exit code is 2 if a picture
    cannot be read or a task named with --tasks fails.

    Args:
        hub: the hub's folder.
        images: pictures, or folders with pictures in them.
        tasks: comma-separated names; by default all tasks.
        top_k: number of classes to list for each task.
        source_head: use the source's own head as well; its classes are numbers.
        reject: answer unknown where a picture is less familiar than this share of the task's own pictures, such as
            0.05, which is about the rate of false alarms. "known" in JSON is that share for each picture, 0..1.
        device: cpu, cuda, cuda:1, mps, or auto for the fastest available. A few pictures are fastest on the CPU, as a
            GPU takes seconds to start.
        json: print a list of {"image", "tasks": {NAME: {"kind": "class", "classes": [{"class", "probability"}]}}}, most
            likely first, with {"error"} for a task that fails. Other kinds have {"kind": "multi", "tags": [{"tag",
            "probability", "on"}]}, {"kind": "number", "value"} or {"kind": "ordered", "grade", "grades": [{"grade",
            "probability"}]}.
    """
    if top_k < 1:
        raise SnowError(f"--top-k must be at least 1, not {top_k}")
    target = find_device(device)
    files = list(_files(images))
    opened = Hub.open(hub, engine="eager" if len(files) <= FEW else "auto")
    opened.source.to(target)
    names = _names(opened, tasks, source_head)
    gc.freeze()  # the tasks stay: with hundreds of them, each search for garbage in them takes half a second
    answered: list[tuple[Path, Predictions]] = []
    unreadable = False
    for batch, is_bad in picture_batches(files, opened):
        unreadable = unreadable or is_bad
        if batch:
            predictions = opened.predict(torch.stack([pixels for _, pixels in batch]), names, reject)
            answered += zip((path for path, _ in batch), predictions, strict=True)
    failures = _failures(predictions for _, predictions in answered)
    for name, error in failures.items():
        note(f"{'error' if name in tasks else 'warning'}: task {name} has no prediction: {error}")
    if json:
        print_json([encode(str(path), predictions, top_k) for path, predictions in answered])
    elif answered:
        kinds = {entry.kind for _, row in answered for entry in row.values() if isinstance(entry, Prediction)}
        print_table(
            ("picture", "task", "class" if kinds <= {ClassKind.name} else "answer", "probability"),
            _rows(answered, top_k),
        )
    return BAD_INPUT if unreadable or failures.keys() & set(tasks) else 0


def _names(hub: Hub, named: Sequence[str], source_head: bool) -> list[str]:
    """List the tasks to ask. Raises SnowError: a named task is unknown, or there is none that can answer."""
    hub.tasks.require(*(name for name in named if name != SOURCE_HEAD))
    names = list(dict.fromkeys(named)) or hub.names()
    if not named and not source_head:
        broken = hub.broken()
        if len(broken) == len(names):
            reason = f"that can answer: {'; '.join(broken.values())}" if broken else "yet: snow train adds one"
            raise SnowError(f"hub {hub.path} has no task {reason}")
    return [*names, *([SOURCE_HEAD] if source_head else [])]


def _failures(pictures: Iterable[Predictions]) -> dict[str, str]:
    """Map each task that failed on a picture to its first error."""
    errors: dict[str, str] = {}
    for predictions in pictures:
        for name, entry in predictions.items():
            if isinstance(entry, Failure):
                errors.setdefault(name, entry.error)
    return errors


def picture_batches(images: Sequence[Path], hub: Hub) -> Iterator[tuple[list[tuple[Path, Tensor]], bool]]:
    """Yield batches of pictures (3, S, S), each with whether a picture before it could not be read."""
    prepare = eval_transform(hub.source.preprocessing)
    batch: list[tuple[Path, Tensor]] = []
    is_bad = False
    for path in _files(images):
        try:
            batch.append((path, prepare(decode(path))))
        except SnowError as error:
            note(f"error: {error}")
            is_bad = True
        if len(batch) == BATCH:
            yield batch, is_bad
            batch = []
    yield batch, is_bad


def _files(images: Sequence[Path]) -> Iterator[Path]:
    """Yield picture files; for a folder those in it and below, or the folder itself if it holds none."""
    for path in images:
        yield from (picture_files(path) if path.is_dir() else []) or [path]


def _rows(answered: Sequence[tuple[Path, Predictions]], top_k: int) -> Iterator[tuple[object, ...]]:
    for path, predictions in answered:
        for name, entry in predictions.items():
            if isinstance(entry, Failure):
                yield shown(path), name, f"error: {entry.error}", ""
                continue
            if entry.rejected:
                yield shown(path), name, f"unknown (most likely {entry.top(1)[0][0]})", f"{entry.known:.3f}"
                continue
            for place, (label, value) in enumerate(entry.top(top_k)):
                probability = "" if isinstance(entry, NumberPrediction) else f"{value:.3f}"
                yield (*((shown(path), name) if not place else ("", "")), label, probability)
