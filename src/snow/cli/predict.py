"""`snow predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from snow.inference.prediction import SOURCE_HEAD, Answer

BATCH = 32

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
    json: Json = False,
) -> int:
    """Ask all tasks about pictures, in one pass of the source. Pictures that cannot be read are named; exit code 2.

    Tasks that cannot answer are named on the standard error and left out.

    Args:
        hub: its folder.
        images: pictures, or folders with pictures in them.
        tasks: which, with commas between; by default all that can answer.
        top_k: how many classes to name.
        source_head: ask the source's own head too: its classes are numbers.
        json: print a list of {"image", "tasks": {NAME: [{"class", "probability"}]}}, most likely first.
    """
    if top_k < 1:
        raise SnowError(f"--top-k is at least 1, not {top_k}")
    opened = Hub.open(hub)
    broken = {} if tasks else opened.broken()
    asked = list(dict.fromkeys(tasks)) or [name for name in opened.names() if name not in broken]
    asked += [SOURCE_HEAD] if source_head else []
    if not asked:
        why = f"that can answer: {'; '.join(broken.values())}" if broken else "yet: snow train adds one"
        raise SnowError(f"hub {hub} has no task {why}")
    for name, reason in broken.items():
        note(f"warning: task {name} is left out: {reason}")
    for name in asked:
        opened.classes(name)
    answered: list[tuple[Path, dict[str, Answer]]] = []
    failed = False
    for batch, bad in _batches(images, opened):
        failed = failed or bad
        if batch:
            answers = opened.predict(torch.stack([pixels for _, pixels in batch]), asked)
            answered += zip((path for path, _ in batch), answers, strict=True)
    if json:
        print_json([_entry(path, answers, top_k) for path, answers in answered])
    elif answered:
        print_table(("picture", "task", "class", "probability"), _rows(answered, top_k))
    return BAD_INPUT if failed else 0


def _batches(images: Sequence[Path], hub: Hub) -> Iterator[tuple[list[tuple[Path, Tensor]], bool]]:
    """Pictures (3, S, S) in batches, each with whether one before it could not be read."""
    prepare = eval_transform(hub.source.preprocessing)
    batch: list[tuple[Path, Tensor]] = []
    failed = False
    for path in _files(images):
        try:
            batch.append((path, prepare(decode(path))))
        except SnowError as error:
            note(f"error: {error}")
            failed = True
        if len(batch) == BATCH:
            yield batch, failed
            batch = []
    yield batch, failed


def _files(images: Sequence[Path]) -> Iterator[Path]:
    """The pictures themselves; of a folder those in it and below, or else the folder, which is none."""
    for path in images:
        yield from (picture_files(path) if path.is_dir() else []) or [path]


def _entry(path: Path, answers: dict[str, Answer], top_k: int) -> dict[str, object]:
    return {
        "image": str(path),
        "tasks": {
            name: [{"class": one, "probability": probability} for one, probability in _top(answer, top_k)]
            for name, answer in answers.items()
        },
    }


def _rows(answered: Sequence[tuple[Path, dict[str, Answer]]], top_k: int) -> Iterator[tuple[object, ...]]:
    for path, answers in answered:
        for name, answer in answers.items():
            for place, (one, probability) in enumerate(_top(answer, top_k)):
                yield (*((shown(path), name) if not place else ("", "")), one, f"{probability:.3f}")


def _top(answer: Answer, top_k: int) -> Iterator[tuple[str, float]]:
    yield from zip(answer.classes[:top_k], answer.probabilities[:top_k], strict=True)
