"""`snow lifelong`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snow.cli.app import command
from snow.cli.options import RECIPE, RUNTIME, SOURCE, ExperimentRuntime, Json, SourceOptions
from snow.cli.output import announced, counting, note, percent, print_json, print_table
from snow.cli.sources import new_source
from snow.data import Dataset, open_dataset
from snow.experiments.lifelong import draw_forgetting, forgetting_columns, forgetting_rows, lifelong
from snow.experiments.plots.figure import check
from snow.methods.variant import Variant
from snow.process.interrupt import Interrupted
from snow.store import exclusive
from snow.training import Recipe, Runtime

app = command("lifelong", "snow lifelong insects/ textures/ cars/ --methods lf,snow --image-size 128 --epochs 10")


@app.default
def lifelong_command(
    *data: str,
    methods: str = "lf,snow",
    test_fraction: float = 0.2,
    hubs: Path | None = None,
    out: Path | None = None,
    plot: Path | None = None,
    json: Json = False,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
    recipe: Annotated[Recipe | None, Parameter(name="*", group=RECIPE)] = None,
    runtime: Annotated[ExperimentRuntime | None, Parameter(name="*", group=RUNTIME)] = None,
) -> None:
    """Learn tasks one after the other, in the order given and in reverse, and measure all earlier ones after each.

    Args:
        data: two or more, each as for `snow train`; a task is called after its folder or file.
        methods: with commas between; `all` is every one, `lf:old_weight=4` one with options.
        test_fraction: part of each class to test on where the data has no test part.
        hubs: folder that keeps a hub for each order and method; the same command goes on from what is in it.
        out: JSON file for the results; what is in it already is not done again.
        plot: picture of the triangular tables (.png, .svg or .pdf).
        json: print {"orders": [{"order", "methods": {METHOD: {"accuracy", "forgetting"}}}]}, with fractions;
            accuracy[i][j] is that of task i after task j.
    """
    recipe, options = recipe or Recipe(), source or SourceOptions()
    variants = Variant.parse(methods)
    if plot is not None:
        check(plot)
    opened = new_source(options, recipe.seed)
    datasets = [_open(one, test_fraction, recipe.seed) for one in data]
    with tempfile.TemporaryDirectory(prefix="snow-") as temporary:
        try:
            with exclusive(out):
                hub = hubs or Path(temporary)
                results = lifelong(
                    opened, datasets, variants, recipe, hub, announced, out, runtime=runtime or Runtime()
                )
        except Interrupted as stopped:
            how = "the same command goes on" if hubs else "with --hubs DIR the same command could go on"
            raise Interrupted(f"stopped: {how}", stopped.signal) from None
    if plot is not None:
        draw_forgetting(results, plot)
    if json:
        print_json(results)
        return
    for order in results["orders"]:
        for label, measured in order["methods"].items():
            print_table(forgetting_columns(order["order"], f"{label}, %"), forgetting_rows(order["order"], measured))
            print(f"lost of the earlier tasks at the end: {percent(measured['forgetting'])}\n")


def _open(data: str, test_fraction: float, seed: int) -> Dataset:
    path = Path(data)
    with counting("checking pictures") as progress:
        name = path.resolve().name if path.is_dir() else path.stem
        dataset = open_dataset(data, task=name, test_fraction=test_fraction, seed=seed, progress=progress)
    for warning in dataset.warnings:
        note(f"warning: {warning}")
    return dataset
