"""`snow bench training`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from snow.bench.conditions import Conditions
from snow.bench.pipeline import write_pictures
from snow.bench.training import TrainingBench, measure_training
from snow.bench.training_table import COLUMNS, PHASE_COLUMNS, phases, speeds
from snow.cli.bench.app import app
from snow.cli.options import Flag, Json
from snow.cli.output import note, print_json, print_table
from snow.compare.variant import Variant
from snow.data import Dataset, open_dataset
from snow.training.recipe import CacheDtype, Precision, Recipe
from snow.unfilled import unfilled_source


@app.command(help_epilogue="Example: `snow bench training --source resnet50 --methods fo,ft,snow --device cpu`")
def training(
    *,
    source: str = "embedded",
    image_size: int | None = None,
    batch_size: int = 32,
    methods: str = "fo,ft,snow",
    precision: Precision = "auto",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    augment: str = "mild",
    workers: int | None = None,
    cached: Flag = False,
    cache_dtype: CacheDtype = "fp16",
    rounds: int = 3,
    steps: int = 5,
    data: Path | None = None,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Measure training steps: images/s from memory and from picture files, peak memory, and where the time goes.

    Methods are measured in turn, in processes of their own, at the same batch size and precision. Three rows show
    the limit: the source's pass alone, a delta's step on features that are there already, and loading alone. Figures
    are medians over rounds; phases are timed one by one, so a GPU does not overlap them.

    Args:
        source: embedded, the name of a timm model, or torchvision/NAME; random weights will do.
        image_size: side of the pictures in pixels; by default the CNN's own.
        batch_size: pictures a step.
        methods: with commas between; ratios are to `ft`, if it is among them.
        precision: auto takes bf16 where the hardware computes in it, otherwise 32.
        device: where to train.
        augment: how training pictures are varied.
        workers: loading processes; by default one for each spare core, at most 8.
        cached: measure them on kept features too, as `snow train --cache` trains once a view of a picture was seen.
        cache_dtype: type of these, as for `snow train`.
        rounds: times that each row is measured.
        steps: timed steps of each measurement.
        data: folder of pictures to load, as for `snow train`; by default some are generated.
        out: JSON file for the results.
        json: print the results: {"methods": {METHOD: {"images_per_second", "peak_memory_bytes", "over_ft",
            "memory_over_ft", "milliseconds_per_image", …}}, "limits": {"source", "delta", "decoding"}, …}.
    """
    recipe = Recipe(
        batch_size=batch_size, precision=precision, augment=augment, workers=workers, cache_dtype=cache_dtype
    )
    size = unfilled_source(source, image_size).preprocessing.image_size
    variants = Variant.parse(methods)
    with _pictures(data, batch_size) as dataset:
        conditions = Conditions(source, size, len(dataset.tasks[0].classes), recipe, device, steps)
        work = TrainingBench(conditions, variants, dataset.train, rounds, cached)
        results = measure_training(work, out, note)
    if json:
        print_json(results)
    else:
        print_table(COLUMNS, speeds(results))
        print()
        print_table(PHASE_COLUMNS, phases(results))


@contextmanager
def _pictures(folder: Path | None, batch_size: int) -> Generator[Dataset]:
    if folder is not None:
        yield open_dataset(folder, check=False)
        return
    with TemporaryDirectory(prefix="snow-") as place:
        write_pictures(Path(place), max(64, 4 * batch_size), classes=10)
        yield open_dataset(place, check=False)
