"""`snow bench`: benchmark training and serving on this machine."""

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
from snow.experiments.bench.training import TrainingBench, measure_training
from snow.experiments.bench.training_table import PHASE_COLUMNS, SPEED_COLUMNS, phases, speeds
from snow.experiments.step_cost import BenchConditions
from snow.inference import AutoEngine
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
    measure: Flag = False,
    device: str = "cpu",
    rounds: int = 5,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Benchmark inference: images/s with some tasks, compared with the source alone and with one network per task.

    All rows are measured in turn, in one process, with the same engine. Ratios are medians over rounds. Weights are
    random.

    Args:
        source: embedded, the name of a timm model, or torchvision/NAME. Weights are random.
        image_size: side of the images in pixels; by default that of the CNN.
        batch_size: images per source pass.
        tasks: comma-separated numbers of tasks that are evaluated together.
        sizes: batch sizes at which to measure the service, too, for `snow plan`; "" skips it.
        snow: method snow with options, such as snow:preset=paper or snow:width=0.0625.
        engine: inference engine: eager, folded, stacked, compiled, onnx, int8, or auto for the fastest that starts at
            once; or several, such as auto,stacked, to measure them side by side.
        measure: measure anew which way of running tasks auto should choose on this machine.
        device: cpu, cuda or mps.
        rounds: number of times to measure each row.
        out: JSON file for the results.
        json: print the results: {"source": {"images_per_second"}, "snow": {"6": {"images_per_second", "of_source",
            "over_ft", "limit_of_source"}}, "fo": …, "ft": …, "hub": {"load_seconds", "add_seconds", "bytes_a_task"},
            "service": {"passes", "requests", "loads", …}, …}.
    """
    size = meta_source(source, image_size).preprocessing.image_size
    bench = ServingBench(source, size, batch_size, tasks, Variant(snow), engine, device, rounds, sizes)
    if measure:
        AutoEngine(bench.open()).measure(again=True)
    results = measure_serving(bench, out, note)
    if json:
        print_json(results)
        return
    print_table(SERVING_COLUMNS, serving_rows(results))
    hub = results["hub"]
    print(
        f"\nhub of {hub['tasks']} tasks: opens in {hub['load_seconds']:.2f} s, {hub['bytes_a_task'] / 1e6:.1f} MB per "
        f"task, one more task takes {1e3 * hub['add_seconds']:.0f} ms"
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
    """Benchmark training: images/s from memory and from image files, peak memory, and the time of each phase.

    Methods are measured in turn, each in a process of its own, at the same batch size and precision. Three rows are
    upper limits: the source pass alone, a delta's step on features in memory, and loading alone. Figures are medians
    over rounds. Phases are synchronised, so they do not overlap on a GPU.

    Args:
        source: embedded, the name of a timm model, or torchvision/NAME. Weights are random.
        image_size: side of the images in pixels; by default that of the CNN.
        batch_size: images per step.
        methods: comma-separated methods; ratios are relative to `ft`, if it is among them.
        precision: auto uses bf16 if the hardware supports it, otherwise 32.
        device: device to train on.
        augment: augmentation of training images.
        workers: loading processes; by default one per spare core, at most 8.
        cached: also measure training on cached features, as with `snow train --cache`.
        cache_dtype: data type of cached features, as for `snow train`.
        rounds: number of times to measure each row.
        steps: timed steps per measurement.
        data: dataset to load, as for `snow train`; by default images are generated.
        out: JSON file for the results.
        json: print the results: {"methods": {METHOD: {"images_per_second", "peak_memory_bytes", "over_ft",
            "memory_over_ft", "milliseconds_per_image", …}}, "limits": {"source", "delta", "decoding"}, …}.
    """
    recipe = Recipe(batch_size=batch_size, precision=precision, augment=augment, cache_dtype=cache_dtype)
    runtime = Runtime(workers=workers, accelerator=device)
    size = meta_source(source, image_size).preprocessing.image_size
    variants = Variant.parse(methods)
    with _pictures(data, batch_size) as dataset:
        conditions = BenchConditions(source, size, len(dataset.tasks[0].classes), recipe, runtime, steps)
        bench = TrainingBench(conditions, variants, dataset.train, rounds, cached)
        results = measure_training(bench, out, note)
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
    with TemporaryDirectory(prefix="snow-") as temporary:
        write_pictures(Path(temporary), max(64, 4 * batch_size), classes=10)
        yield open_dataset(temporary, check=False)
