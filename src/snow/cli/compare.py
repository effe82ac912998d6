"""`snow compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from snow.cli.app import command
from snow.cli.label_options import Kinds, open_one_task
from snow.cli.options import RECIPE, RUNTIME, SOURCE, Json, SourceOptions
from snow.cli.output import announce, print_json, print_table
from snow.cli.sources import new_source
from snow.cli.training_options import ExperimentRuntime
from snow.errors import SnowError
from snow.experiments.compare import HELD_OUT, RATES, Comparison, columns, rows, run_comparison
from snow.experiments.plots.comparison import draw_comparison, wrap_label
from snow.experiments.plots.figure import check_picture_path
from snow.methods.variant import Variant
from snow.store import exclusive
from snow.training import Recipe, Runtime


def _rates(_type: object, tokens: Sequence[Token]) -> tuple[float, ...]:
    try:
        return tuple(float(rate) for token in tokens for rate in token.value.split(","))
    except ValueError:
        raise SnowError(f"--rates takes numbers such as 1e-3,3e-3, not {tokens[0].value!r}") from None


Rates = Annotated[tuple[float, ...], Parameter(converter=_rates, n_tokens=1)]

app = command("compare", "snow compare pictures/ --methods fo,snow --image-size 128 --epochs 10")


@app.default
def compare_command(
    data: str,
    /,
    *,
    methods: str = "fo,snow",
    rates: Rates = RATES,
    seeds: int = 1,
    held_out: float = HELD_OUT,
    root: Path | None = None,
    test_fraction: float = 0.2,
    label: str | None = None,
    kind: Kinds = (),
    costs: bool = True,
    out: Path | None = None,
    plot: Path | None = None,
    json: Json = False,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
    recipe: Annotated[Recipe | None, Parameter(name="*", group=RECIPE)] = None,
    runtime: Annotated[ExperimentRuntime | None, Parameter(name="*", group=RUNTIME)] = None,
) -> None:
    """Compare methods on one task, each with its own learning rate.

    The rate is chosen on held-out training images. Then each method is trained on all training images and evaluated
    on the test images once.

    Args:
        data: as for `snow train`.
        methods: comma-separated methods; `all` is every method, `snow:keep=0.25:pooling.slots=index` sets options.
        rates: comma-separated learning rates to choose from, the same for all methods.
        seeds: number of seeds, counted from --seed.
        held_out: fraction of the training images on which rates are compared.
        label: label column of a table; by default `label`, or the only one.
        kind: kind of the labels, as COLUMN=KIND; see `snow train`.
        root: folder in which the relative paths of a table start; by default its own.
        test_fraction: fraction of each class to test on if the data has no test split.
        costs: measure images/s and memory, too, each method in a process of its own.
        out: JSON file for the results; an interrupted command continues from it.
        plot: write a plot of accuracy against speed (.png, .svg or .pdf).
        json: print the results.
    """
    recipe, options = recipe or Recipe(), source or SourceOptions()
    variants = Variant.parse(methods)
    if plot is not None:
        check_picture_path(plot)
    opened = new_source(options, recipe.seed)
    dataset = open_one_task(data, label, kind, root, test_fraction, recipe.seed, options.resize)
    seed_range = tuple(range(recipe.seed, recipe.seed + seeds))
    comparison = Comparison(opened, dataset, recipe, variants, rates, seed_range, held_out, costs, runtime or Runtime())

    with exclusive(out):
        results = run_comparison(comparison, {"path": Path(data).name}, out, announce)
    if plot is not None:
        draw_comparison(results, plot)
    if json:
        print_json(results)
    else:
        print_table(columns(results), [(wrap_label(label, 24), *cells) for label, *cells in rows(results)])
