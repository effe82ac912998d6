"""`snow bench serving`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from snow.bench.service import SIZES
from snow.bench.serving import COLUMNS, ServingBench, measure_serving, rows
from snow.cli.bench.app import app
from snow.cli.options import Json
from snow.cli.output import note, print_json, print_table
from snow.compare.variant import Variant
from snow.errors import SnowError
from snow.unfilled import unfilled_source


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
    size = unfilled_source(source, image_size).preprocessing.image_size
    work = ServingBench(source, size, batch_size, tasks, Variant(snow), engine, device, rounds, sizes)
    results = measure_serving(work, out, note)
    if json:
        print_json(results)
        return
    print_table(COLUMNS, rows(results))
    hub = results["hub"]
    print(
        f"\nhub of {hub['tasks']} tasks: opened in {hub['load_seconds']:.2f} s, {hub['bytes_a_task'] / 1e6:.1f} MB a "
        f"task, one more in {1e3 * hub['add_seconds']:.0f} ms"
    )
