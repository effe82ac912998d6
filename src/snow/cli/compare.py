"""`snow compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from snow.cli.app import command
from snow.cli.options import RECIPE, RUNTIME, SOURCE, ExperimentRuntime, Json, SourceOptions
from snow.cli.output import announced, counting, note, print_json, print_table
from snow.cli.sources import new_source
from snow.data import open_dataset
from snow.errors import SnowError
from snow.experiments.compare import HELD_OUT, RATES, Comparison, compare
from snow.experiments.plots.comparison import picture, wrapped
from snow.experiments.plots.figure import check
from snow.experiments.results.table import COLUMNS, rows
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
    test_fraction: float = 0.2,
    costs: bool = True,
    out: Path | None = None,
    plot: Path | None = None,
    json: Json = False,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
    recipe: Annotated[Recipe | None, Parameter(name="*", group=RECIPE)] = None,
    runtime: Annotated[ExperimentRuntime | None, Parameter(name="*", group=RUNTIME)] = None,
) -> None:
    """Train methods on the same work, each with its own learning rate, and measure them side by side.

    The rate is chosen on training pictures that are held out; then each method learns all of them, and the test
    pictures are seen once.

    Args:
        data: as for `snow train`.
        methods: with commas between; `all` is every one, `snow:keep=0.25:pooling.slots=index` one with options.
        rates: learning rates to choose from, the same for all methods.
        seeds: how many, counted from --seed.
        held_out: part of the training pictures on which rates are compared.
        test_fraction: part of each class to test on where the data has no test part.
        costs: measure images/s and memory as well, each method in a process of its own.
        out: JSON file for the results; the same command goes on from what is in it.
        plot: picture of accuracy against speed (.png, .svg or .pdf).
        json: print the results.
    """
    recipe, options = recipe or Recipe(), source or SourceOptions()
    variants = Variant.parse(methods)
    if plot is not None:
        check(plot)
    opened = new_source(options, recipe.seed)
    with counting("checking pictures") as progress:
        dataset = open_dataset(data, test_fraction=test_fraction, seed=recipe.seed, progress=progress)
    for warning in dataset.warnings:
        note(f"warning: {warning}")
    chosen = tuple(range(recipe.seed, recipe.seed + seeds))
    work = Comparison(opened, dataset, recipe, variants, rates, chosen, held_out, costs, runtime or Runtime())

    with exclusive(out):
        results = compare(work, {"path": Path(data).name}, out, announced)
    if plot is not None:
        picture(results, plot)
    if json:
        print_json(results)
    else:
        print_table(COLUMNS, [(wrapped(label, 24), *cells) for label, *cells in rows(results)])
