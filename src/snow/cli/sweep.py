"""`snow sweep`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from snow.cli.app import command
from snow.cli.label_options import Kinds, open_one_task
from snow.cli.options import RECIPE, RUNTIME, SNOW, SOURCE, Json, SourceOptions
from snow.cli.output import announce, print_json, print_table
from snow.cli.sources import new_source
from snow.cli.training_options import ExperimentRuntime, SnowOptions
from snow.distributed.ray_map import Workers
from snow.errors import SnowError
from snow.experiments.compare import HELD_OUT
from snow.experiments.plots.figure import check_picture_path
from snow.experiments.plots.sweep import draw_sweep
from snow.experiments.sweep import PAPER, Option, Sweep, TrialConfig, run_sweep
from snow.experiments.sweep.options import TOGETHER
from snow.experiments.sweep.table import columns, rows
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
    root: Path | None = None,
    test_fraction: float = 0.2,
    label: str | None = None,
    kind: Kinds = (),
    out: Path | None = None,
    plot: Path | None = None,
    json: Json = False,
    ray_workers: Annotated[Workers | None, Parameter(name="*")] = None,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
    recipe: Annotated[Recipe | None, Parameter(name="*", group=RECIPE)] = None,
    runtime: Annotated[ExperimentRuntime | None, Parameter(name="*", group=RUNTIME)] = None,
    options: Annotated[SnowOptions | None, Parameter(name="*", group=SNOW)] = None,
) -> None:
    """Change one option of method snow at a time, and measure accuracy on held-out training images.

    Trials share source passes where their recipes agree. The test images are never used.

    Args:
        data: as for `snow train`.
        over: an option and its values, NAME=VALUE,VALUE; may be repeated. Takes any option of method snow or of the
            recipe. All other options keep the values given below.
        seeds: number of seeds, counted from --seed.
        search: number of further trials in which all options change at once within their ranges (Optuna's TPE).
        held_out: fraction of the training images on which accuracy is measured.
        together: most trials that share a source pass; fewer need less memory. By default 8, with engine ray 1.
        engine: local trains one source pass after another. ray trains each on a worker of its own, many at once, on the
            Ray cluster at RAY_ADDRESS or on one started on this machine; lost workers are replaced.
        label: label column of a table; by default `label`, or the only one.
        kind: kind of the labels, as COLUMN=KIND; see `snow train`.
        root: folder in which the relative paths of a table start; by default its own.
        test_fraction: fraction of each class to set aside if the data has no test split.
        out: JSON file for the results. The trials are kept in a .db file beside it: the same command, or one with
            further options, values or seeds, trains only what is missing.
        plot: write a plot of accuracy over each option (.png, .svg or .pdf).
        json: print the results.
    """
    runtime = runtime or ExperimentRuntime()
    recipe = (recipe or Recipe()).resolved(runtime.cache is not None)
    if ray_workers is not None and engine != "ray":
        raise SnowError("--worker-cpus and --worker-gpus need --engine ray")
    workers = (ray_workers or Workers()) if engine == "ray" else None
    if together is None:
        together = TOGETHER if workers is None else 1
    if plot is not None:
        check_picture_path(plot)
    resize = (source or SourceOptions()).resize
    dataset = open_one_task(data, label, kind, root, test_fraction, recipe.seed, resize)
    given = options or SnowConfig()
    config = replace(given, start=given.start or "zero")  # most options shape how a delta learns from nothing
    base = TrialConfig(config.resolved(dataset.tasks[0].kind.outputs), recipe)
    swept = tuple(Option.parse(text, base) for text in over)
    opened = new_source(source or SourceOptions(), recipe.seed)
    seed_range = tuple(range(recipe.seed, recipe.seed + seeds))
    plan = Sweep(opened, dataset, base, swept, seed_range, held_out, together, search, runtime)
    results = _run(plan, data, out, workers)
    if plot is not None:
        draw_sweep(results, plot)
    if json:
        print_json(results)
    else:
        print_table(columns(results), rows(results))


def _run(sweep: Sweep, data: str, out: Path | None, workers: Workers | None) -> dict[str, Any]:
    try:
        with exclusive(out):
            return run_sweep(sweep, {"path": Path(data).name}, out, announce, workers)
    except Interrupted as stopped:
        how = "run the same command to continue" if out else "use --out FILE to make runs resumable"
        raise Interrupted(f"stopped: {how}", stopped.signal) from None
