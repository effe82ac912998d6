"""`snow lifelong`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snow.cli.app import command
from snow.cli.options import RECIPE, RUNTIME, SOURCE, Json, SourceOptions
from snow.cli.output import announce, counting, note, percent, print_json, print_table
from snow.cli.sources import new_source
from snow.cli.training_options import ExperimentRuntime
from snow.data import Dataset, open_dataset
from snow.experiments.lifelong import forgetting_columns, forgetting_rows, run_lifelong
from snow.experiments.plots.figure import check_picture_path
from snow.experiments.plots.forgetting import draw_forgetting
from snow.methods.variant import Variant
from snow.process.interrupt import Interrupted
from snow.store import exclusive
from snow.training import Recipe, Runtime

app = command("lifelong", "snow lifelong insects/ textures/ cars/ --methods lf,snow --image-size 128 --epochs 10")


@app.default
def lifelong_command(
    *data: str,
    methods: str = "lf,snow",
    root: Path | None = None,
    test_fraction: float = 0.2,
    hubs: Path | None = None,
    out: Path | None = None,
    plot: Path | None = None,
    json: Json = False,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
    recipe: Annotated[Recipe | None, Parameter(name="*", group=RECIPE)] = None,
    runtime: Annotated[ExperimentRuntime | None, Parameter(name="*", group=RUNTIME)] = None,
) -> None:
    """Train tasks one after another, in the given order and in reverse, and evaluate all earlier tasks after each.

    Args:
        data: two or more datasets, each as for `snow train`; a task is named after its folder or file.
        methods: comma-separated methods; `all` is every method, `lf:old_weight=4` sets an option.
        root: folder in which the relative paths of all tables start; by default that of each table.
        test_fraction: fraction of each class to test on if the data has no test split.
        hubs: folder for one hub per order and method; an interrupted command continues from it.
        out: JSON file for the results; what it already holds is not measured again.
        plot: write a plot of the triangular tables (.png, .svg or .pdf).
        json: print {"orders": [{"order", "methods": {METHOD: {"accuracy", "forgetting"}}}]}; accuracies are
            fractions, and accuracy[i][j] is that of task i after task j was learned.
    """
    recipe, options = recipe or Recipe(), source or SourceOptions()
    variants = Variant.parse(methods)
    if plot is not None:
        check_picture_path(plot)
    opened = new_source(options, recipe.seed)
    folders = [path for path in data if Path(path).is_dir()]
    roots = dict.fromkeys(folders) if len(folders) < len(data) else {}  # folders alone refuse a root
    datasets = [_open(path, roots.get(path, root), test_fraction, recipe.seed, options.resize) for path in data]
    with tempfile.TemporaryDirectory(prefix="snow-") as temporary:
        try:
            with exclusive(out):
                results = run_lifelong(
                    opened,
                    datasets,
                    variants,
                    recipe,
                    hubs or Path(temporary),
                    announce,
                    out,
                    runtime=runtime or Runtime(),
                )
        except Interrupted as stopped:
            how = "run the same command to continue" if hubs else "use --hubs DIR to make runs resumable"
            raise Interrupted(f"stopped: {how}", stopped.signal) from None
    if plot is not None:
        draw_forgetting(results, plot)
    if json:
        print_json(results)
        return
    for order in results["orders"]:
        for label, measured in order["methods"].items():
            print_table(forgetting_columns(order["order"], f"{label}, %"), forgetting_rows(order["order"], measured))
            print(f"average accuracy lost on earlier tasks: {percent(measured['forgetting'])}\n")


def _open(data: str, root: Path | None, test_fraction: float, seed: int, resize: str | None) -> Dataset:
    path = Path(data)
    with counting("checking images") as progress:
        name = path.resolve().name if path.is_dir() else path.stem
        dataset = open_dataset(data, task=name, test_fraction=test_fraction, seed=seed, progress=progress, root=root)
    for warning in dataset.warnings_for(resize or "crop"):
        note(f"warning: {warning}")
    return dataset
