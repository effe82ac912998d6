"""`snow reproduce`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snow.cli.app import command
from snow.cli.compare import Rates
from snow.cli.options import RECIPE, RUNTIME, SOURCE, Flag, Json, Names, SourceOptions
from snow.cli.output import announce, counting, note, print_json
from snow.cli.sources import new_source, own_size
from snow.cli.training_options import ExperimentRuntime
from snow.errors import SnowError
from snow.experiments.compare import HELD_OUT, RATES
from snow.experiments.reproduce import EXPERIMENTS, Experiment
from snow.experiments.reproduce.estimate import TimeEstimate, format_duration, total
from snow.experiments.reproduce.experiment import reproduce
from snow.experiments.reproduce.sets import SetLocation, find
from snow.experiments.reproduce.settings import RESNET, ReproductionSettings
from snow.methods.variant import Variant
from snow.process.interrupt import Interrupted
from snow.store import exclusive
from snow.training import Recipe

app = command("reproduce", "snow reproduce table7 --data datasets/ --source resnet50 --out reproduction/")

IMAGE_SIZE = 224


@app.default
def reproduce_command(
    what: Annotated[str, Parameter(help=f"table or figure to reproduce: {', '.join(EXPERIMENTS)}.")],
    /,
    *,
    data: Path | None = None,
    sets: Names = (),
    methods: str = "",
    rates: Rates = RATES,
    seeds: int = 1,
    held_out: float = HELD_OUT,
    speeds: bool = True,
    out: Path = Path("reproduction"),
    estimate: Flag = False,
    json: Json = False,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
    recipe: Annotated[Recipe | None, Parameter(name="*", group=RECIPE)] = None,
    runtime: Annotated[ExperimentRuntime | None, Parameter(name="*", group=RUNTIME)] = None,
) -> None:
    """Reproduce a table or figure of the paper, and show the paper's figures next to the measured ones.

    Writes NAME.json, NAME.md and NAME.png into the folder for results. What the folder already holds is not measured
    again, so an interrupted command can be continued.

    Args:
        data: folder with the datasets as their authors distribute them, and with dtd10, cars196 and ants_bees, which
            have splits of their own. Tables 5 and 8, and the parameters of Table 6, need no data.
        sets: comma-separated datasets to use; by default all that are found. NAME-1of3 is the first third of the
            classes of NAME; classes with the same first word, such as the makes of cars, stay together.
        methods: comma-separated methods as for `snow compare`; by default those of the experiment.
        rates: comma-separated learning rates that each method may choose from.
        seeds: number of seeds, counted from --seed.
        held_out: fraction of the training images on which rates and options are compared.
        speeds: measure the speeds and memory of Table 5, too.
        out: folder for results.
        estimate: print how long it will take, and exit.
        json: print the results.
    """
    experiment = _experiment(what)
    options, runtime = source or SourceOptions(), runtime or ExperimentRuntime()
    recipe = (recipe or Recipe()).resolved(runtime.cache is not None)
    locations = _locations(experiment, data, sets)
    with counting("checking images") as progress:
        settings = ReproductionSettings(
            folder=out,
            open_source=lambda: new_source(options, recipe.seed),
            architecture=options.source or RESNET,
            image_size=own_size(options) or IMAGE_SIZE,
            recipe=recipe,
            runtime=runtime,
            locations=tuple(locations),
            methods=Variant.parse(methods),
            rates=rates,
            seeds=tuple(range(recipe.seed, recipe.seed + seeds)),
            held_out=held_out,
            speeds=speeds,
            listeners=announce,
            progress=progress,
            log=note,
        )
        _print_estimates(experiment.estimates(settings))
    if not estimate:
        _run(experiment, settings, json)


def _experiment(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise SnowError(f"no table or figure {name!r}: there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def _locations(experiment: Experiment, data: Path | None, sets: Sequence[str]) -> list[SetLocation]:
    """Find the datasets, and print one line for each that is missing."""
    locations, missing = find(data, sets)
    if data is not None or experiment.needs_data:
        for line in missing:
            note(f"missing: {line}")
    if experiment.needs_data and not locations:
        where = f"{data} has none of the datasets named above" if data else "--data was not given"
        raise SnowError(f"{experiment.name} needs images, and {where}")
    return locations


def _print_estimates(estimates: Sequence[TimeEstimate]) -> None:
    for estimate in estimates:
        note(f"about {format_duration(estimate.seconds)}: {estimate.stage}")
    note(f"about {format_duration(total(estimates))} in total" if estimates else "everything is measured already")


def _run(experiment: Experiment, settings: ReproductionSettings, json: bool) -> None:
    try:
        with exclusive(settings.folder, folder=True):
            results = reproduce(experiment, settings)
    except Interrupted as stopped:
        raise Interrupted("stopped: run the same command to continue", stopped.signal) from None
    if json:
        print_json(results)
    else:
        print(experiment.markdown(results))
    files = (settings.folder / f"{experiment.name}{suffix}" for suffix in (".json", ".md", ".png"))
    note(f"wrote {', '.join(str(path) for path in files if path.exists())}")
