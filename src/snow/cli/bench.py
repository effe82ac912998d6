"""`snow bench`: measure training and serving speed on this machine."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from cyclopts import Parameter, Token

from snow.cli.app import command
from snow.cli.options import Flag, Json
from snow.cli.output import note, print_json, print_table
from snow.data import Dataset, open_dataset
from snow.errors import SnowError
from snow.experiments.bench.pipeline import write_pictures
from snow.experiments.bench.service import SIZES
from snow.experiments.bench.serving import SERVING_COLUMNS, ServingBench, measure_serving, serving_rows
from snow.experiments.bench.setup import Conditions
from snow.experiments.bench.training import TrainingBench, measure_training
from snow.experiments.bench.training_table import PHASE_COLUMNS, SPEED_COLUMNS, phases, speeds
from snow.methods.variant import Variant
from snow.source import meta_source
from snow.training import Recipe, Runtime
from snow.training.recipe import CacheDtype, Precision

app = command("bench", "snow bench training --methods fo,ft,snow")


def _counts(_type: object, tokens: Sequence[Token]) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(count) for token in tokens for count in token.value.split(",") if count}))
    except ValueError:
        raise SnowError(f"{tokens[0].keyword} takes numbers such as 1,6,64, not {tokens[0].value!r}") from None


Counts = Annotated[tuple[int, ...], Parameter(converter=_counts, n_tokens=1)]


@app.command(help_epilogue="Example: `snow bench serving --source resnet50 --tasks 1,6 --batch-size 32`")
def serving(
    *,
    source: str = "embedded",
    image_size: int | None = None,
    batch_size: int = 32,
    tasks: Counts = (1, 6),
    sizes: Counts = SIZES,
    snow: str = "snow",
    engine: str = "auto",
    device: str = "cpu",
    rounds: int = 5,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Measure a hub's answers: images/s for so many tasks, beside the source alone and a whole network for each task.

    Rows are measured in turn, in one process, by the same engine; ratios are medians over rounds. Weights are random.

    Args:
        source: embedded, the name of a timm model, or torchvision/NAME; random weights will do.
        image_size: side of the pictures in pixels; by default the CNN's own.
        batch_size: pictures a pass.
        tasks: how many are asked at once, with commas between.
        sizes: pictures in the passes of `snow serve` that are measured besides, for `snow plan`; "" leaves them out.
        snow: method snow with options, such as snow:preset=paper or snow:width=0.0625.
        engine: what answers: eager, folded, onnx, int8, or auto for the fastest that is ready at once.
        device: where: cpu, cuda or mps.
        rounds: times that each row is measured.
        out: JSON file for the results.
        json: print the results: {"source": {"images_per_second"}, "snow": {"6": {"images_per_second", "of_source",
            "over_ft"}}, "fo": …, "ft": …, "hub": {"load_seconds", "add_seconds", "bytes_a_task"},
            "service": {"passes", "requests", …}, …}.
    """
    size = meta_source(source, image_size).preprocessing.image_size
    work = ServingBench(source, size, batch_size, tasks, Variant(snow), engine, device, rounds, sizes)
    results = measure_serving(work, out, note)
    if json:
        print_json(results)
        return
    print_table(SERVING_COLUMNS, serving_rows(results))
    hub = results["hub"]
    print(
        f"\nhub of {hub['tasks']} tasks: opened in {hub['load_seconds']:.2f} s, {hub['bytes_a_task'] / 1e6:.1f} MB a "
        f"task, one more in {1e3 * hub['add_seconds']:.0f} ms"
    )


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
    recipe = Recipe(batch_size=batch_size, precision=precision, augment=augment, cache_dtype=cache_dtype)
    runtime = Runtime(workers=workers, accelerator=device)
    size = meta_source(source, image_size).preprocessing.image_size
    variants = Variant.parse(methods)
    with _pictures(data, batch_size) as dataset:
        conditions = Conditions(source, size, len(dataset.tasks[0].classes), recipe, runtime, steps)
        work = TrainingBench(conditions, variants, dataset.train, rounds, cached)
        results = measure_training(work, out, note)
    if json:
        print_json(results)
    else:
        print_table(SPEED_COLUMNS, speeds(results))
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
