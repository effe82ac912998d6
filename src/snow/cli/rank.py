"""`snow sources rank`: which source knows most about these pictures, and what it costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from snow.cli.app import command
from snow.cli.label_options import open_one_task
from snow.cli.options import Json, Names
from snow.cli.output import note, print_json, print_table
from snow.errors import SnowError
from snow.experiments.plots.figure import check_picture_path
from snow.experiments.plots.sources import draw_sources
from snow.experiments.rank.available import available_sources
from snow.experiments.rank.rank import AUTO, Ranking, open_named, rank_sources
from snow.experiments.rank.table import COLUMNS, choose, table_rows
from snow.store import exclusive
from snow.training.runtime import parse_size


def _sizes(_type: object, tokens: Sequence[Token]) -> tuple[int | None, ...] | str:
    text = ",".join(token.value for token in tokens)
    if text == AUTO:
        return AUTO
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise SnowError(f"--image-size takes auto or whole numbers such as 128,224, not {text!r}") from None


def _seconds(_type: object, tokens: Sequence[Token]) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*", tokens[0].value)
    if match is None or not float(match.group(1)):
        raise SnowError(f"--within takes a time such as 50ms or 0.2s, not {tokens[0].value!r}")
    return float(match.group(1)) / (1000 if match.group(2) == "ms" else 1)


Sizes = Annotated[tuple[int | None, ...] | str, Parameter(converter=_sizes, n_tokens=1)]
Seconds = Annotated[float | None, Parameter(converter=_seconds, n_tokens=1)]

app = command("sources", "snow sources rank pictures/ --sources embedded,embedded:lite2,resnet50 --within 50ms")


@app.command(name="rank")
def rank_command(
    data: str,
    /,
    *,
    sources: Names = (),
    image_size: Sizes = (None,),
    within: Seconds = None,
    memory: str | None = None,
    pictures: int = 1000,
    pretrained: bool = True,
    seed: int = 0,
    root: Path | None = None,
    test_fraction: float = 0.2,
    label: str | None = None,
    out: Path | None = None,
    plot: Path | None = None,
    json: Json = False,
) -> None:
    """Rank sources for labelled images, without training: the best one first, and what each of them costs.

    Each source runs once over a sample of the training images. A linear classifier on its final features, and the one
    that method snow starts from, are fitted in closed form and judged by images that are left out. Test images are not
    looked at.

    Args:
        data: as for `snow train`.
        sources: comma-separated names as for `snow train --source`, NAME=FILE for one with the weights of a file; by
            default the embedded ones that are installed, and a few of timm if they can be downloaded.
        image_size: side of the images in pixels; several as 128,224; auto tries each source's own, three quarters and
            half of it. By default the source's own.
        within: longest time of a source for one image, such as 50ms.
        memory: most memory that a source may take, such as 2GB.
        pictures: training images that are looked at.
        pretrained: load the pretrained weights; otherwise they are random, and only the costs mean something.
        seed: of the sample.
        root: folder in which the relative paths of a table start; by default its own.
        test_fraction: fraction of each class that is left aside if the data has no test split.
        label: label column of a table; by default `label`, or the only one.
        out: JSON file for the results; an interrupted command continues from it.
        plot: write a plot of accuracy against speed (.png, .svg or .pdf).
        json: print {"sources": {"NAME@SIZE": {...}}, "choice", "reason"}.
    """
    limit = None if memory is None else parse_size(memory)
    _check(pictures, plot)
    dataset = open_one_task(data, label, (), root, test_fraction, seed, None)
    ranking = Ranking(dataset.train, dataset.tasks[0], sources or available_sources(), image_size, pictures, seed)
    with exclusive(out):
        results = rank_sources(ranking, out, partial(open_named, pretrained=pretrained), note)
    entries = results["sources"]
    choice, reason = choose(entries, within, limit)
    if plot is not None:
        draw_sources(entries, choice, plot)
    for entry in entries.values():
        if "failed" in entry:
            note(f"warning: {entry['source']} is left out: {entry['failed']}")
    if json:
        print_json({**results, "choice": choice, "reason": reason})
    else:
        print_table(COLUMNS, table_rows(entries))
        print(f"\n{reason}")


def _check(pictures: int, plot: Path | None) -> None:
    if pictures < 4:
        raise SnowError(f"--pictures must be at least 4, not {pictures}")
    if plot is not None:
        check_picture_path(plot)
