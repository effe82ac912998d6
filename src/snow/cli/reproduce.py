"""`snow reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snow.cli.app import command
from snow.cli.compare import Rates
from snow.cli.options import RECIPE, RUNTIME, SOURCE, ExperimentRuntime, Flag, Json, Names, SourceOptions
from snow.cli.output import announced, counting, note, print_json
from snow.cli.sources import new_source
from snow.errors import SnowError
from snow.experiments.compare import HELD_OUT, RATES
from snow.experiments.reproduce import EXPERIMENTS
from snow.experiments.reproduce.estimate import shown, total
from snow.experiments.reproduce.experiment import reproduce
from snow.experiments.reproduce.sets import find
from snow.experiments.reproduce.settings import RESNET, ReproductionSettings
from snow.methods.variant import Variant
from snow.process.interrupt import Interrupted
from snow.store import exclusive
from snow.training import Recipe

app = command("reproduce", "snow reproduce table7 --data datasets/ --source resnet50 --out reproduction/")

SIDE = 224


@app.default
def reproduce_command(
    what: Annotated[str, Parameter(help=f"which table or figure: {', '.join(EXPERIMENTS)}.")],
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
    """Measure a table or figure of the paper anew, and set the paper's figures beside ours.

    In the folder for results appear NAME.json, NAME.md and NAME.png. What is in it already is not measured again: a
    command that was stopped goes on where it was.

    Args:
        data: folder in which the data sets lie as their authors distribute them, and dtd10, cars196 and ants_bees,
            which have splits of their own. Tables 5 and 8, and the parameters of Table 6, need none.
        sets: only these, with commas between; by default all that are there.
        methods: in the place of the experiment's own, as for `snow compare`.
        rates: learning rates that each method may choose from.
        seeds: how many, counted from --seed.
        held_out: part of the training pictures on which rates and options are compared.
        speeds: measure speeds and memory of Table 5 too.
        out: folder for results.
        estimate: say how long it will take, and end.
        json: print the results.
    """
    if what not in EXPERIMENTS:
        raise SnowError(f"no table or figure {what!r}: there are {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[what]
    options, runtime = source or SourceOptions(), runtime or ExperimentRuntime()
    recipe = (recipe or Recipe()).resolved(runtime.cache is not None)
    found, missing = find(data, sets)
    if data is not None or experiment.needs_data:
        for line in missing:
            note(f"missing: {line}")
    if experiment.needs_data and not found:
        raise SnowError(f"{what} needs pictures, and {data or 'no --data folder'} has none of the sets named above")
    with counting("checking pictures") as progress:
        work = ReproductionSettings(
            folder=out,
            open_source=lambda: new_source(options, recipe.seed),
            bare=options.source or RESNET,
            image_size=options.image_size or SIDE,
            recipe=recipe,
            runtime=runtime,
            found=tuple(found),
            methods=Variant.parse(methods),
            rates=rates,
            seeds=tuple(range(recipe.seed, recipe.seed + seeds)),
            held_out=held_out,
            speeds=speeds,
            listeners=announced,
            progress=progress,
            note=note,
        )
        costs = experiment.costs(work)
    for cost in costs:
        note(f"about {shown(cost.seconds)}: {cost.stage}")
    note(f"about {shown(total(costs))} in all" if costs else "everything has been measured")
    if estimate:
        return
    try:
        with exclusive(out, folder=True):
            results = reproduce(experiment, work)
    except Interrupted as stopped:
        raise Interrupted("stopped: the same command goes on", stopped.signal) from None
    if json:
        print_json(results)
    else:
        print(experiment.markdown(results))
    written = (out / f"{what}{ending}" for ending in (".json", ".md", ".png"))
    note(f"written: {', '.join(str(path) for path in written if path.exists())}")
