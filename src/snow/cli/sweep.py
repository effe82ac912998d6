"""`snow sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from snow.cli.app import command
from snow.cli.options import RECIPE, RUNTIME, SNOW, SOURCE, ExperimentRuntime, Json, SnowOptions, SourceOptions
from snow.cli.output import announced, counting, note, print_json, print_table
from snow.cli.sources import new_source
from snow.data import open_dataset
from snow.distributed.ray_map import Workers
from snow.errors import SnowError
from snow.experiments.compare import HELD_OUT
from snow.experiments.plots.figure import check
from snow.experiments.plots.sweep import draw_sweep
from snow.experiments.sweep import PAPER, Option, Point, Sweep, sweep
from snow.experiments.sweep.options import TOGETHER
from snow.experiments.sweep.table import COLUMNS, rows
from snow.methods import SnowConfig
from snow.process.interrupt import Interrupted
from snow.store import exclusive
from snow.training import Recipe

app = command("sweep", "snow sweep pictures/ --over keep=1/4,1/8,1/16 --over lr=3e-4,1e-3 --out sweep.json")


@app.default
def sweep_command(
    data: str,
    /,
    *,
    over: Annotated[tuple[str, ...], Parameter(show_default=" ".join)] = PAPER,
    seeds: int = 1,
    search: int = 0,
    held_out: float = HELD_OUT,
    together: int | None = None,
    engine: Literal["local", "ray"] = "local",
    test_fraction: float = 0.2,
    out: Path | None = None,
    plot: Path | None = None,
    json: Json = False,
    apart: Annotated[Workers | None, Parameter(name="*")] = None,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
    recipe: Annotated[Recipe | None, Parameter(name="*", group=RECIPE)] = None,
    runtime: Annotated[ExperimentRuntime | None, Parameter(name="*", group=RUNTIME)] = None,
    options: Annotated[SnowOptions | None, Parameter(name="*", group=SNOW)] = None,
) -> None:
    """Train method snow with one option at a time changed, and measure each on held-out training pictures.

    Trials learn side by side on one pass of the source where their recipes agree. The test pictures are never seen.

    Args:
        data: as for `snow train`.
        over: an option and its values, NAME=VALUE,VALUE; several times for several. Any option of method snow or of
            the recipe; those not named, and the default of each, are as given below.
        seeds: how many, counted from --seed.
        search: afterwards, try so many settings in which all options change at once within their ranges (Optuna's TPE).
        held_out: part of the training pictures on which accuracy is measured.
        together: trials on one pass of the source; fewer need less memory. By default 8, with engine ray 1.
        engine: local trains one pass after the other; ray each on a worker of its own, many at once, on the Ray cluster
            that RAY_ADDRESS names or one of this machine, and goes on where a worker is lost.
        test_fraction: part of each class that is set aside where the data has no test part.
        out: JSON file for the results; the trials are kept in a file .db beside it, and the same command, or one with
            further options, values or seeds, trains only what is missing.
        plot: picture of accuracy over each option (.png, .svg or .pdf).
        json: print the results.
    """
    runtime = runtime or ExperimentRuntime()
    recipe = (recipe or Recipe()).resolved(runtime.cache is not None)
    if apart is not None and engine != "ray":
        raise SnowError("worker_cpus and worker_gpus need --engine ray")
    workers = (apart or Workers()) if engine == "ray" else None
    if together is None:
        together = TOGETHER if workers is None else 1
    if plot is not None:
        check(plot)
    with counting("checking pictures") as progress:
        dataset = open_dataset(data, test_fraction=test_fraction, seed=recipe.seed, progress=progress)
    for warning in dataset.warnings:
        note(f"warning: {warning}")
    around = Point((options or SnowConfig()).resolved(len(dataset.tasks[0].classes)), recipe)
    swept = tuple(Option.parse(text, around) for text in over)
    opened = new_source(source or SourceOptions(), recipe.seed)
    chosen = tuple(range(recipe.seed, recipe.seed + seeds))
    work = Sweep(opened, dataset, around, swept, chosen, held_out, together, search, runtime)

    try:
        with exclusive(out):
            results = sweep(work, {"path": Path(data).name}, out, announced, workers)
    except Interrupted as stopped:
        how = "the same command goes on" if out else "with --out FILE the same command could go on"
        raise Interrupted(f"stopped: {how}", stopped.signal) from None
    if plot is not None:
        draw_sweep(results, plot)
    if json:
        print_json(results)
    else:
        print_table(COLUMNS, rows(results))
