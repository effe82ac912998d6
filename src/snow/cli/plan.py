"""`snow plan`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from snow.cli.app import command
from snow.cli.options import Json, Numbers
from snow.cli.output import note, print_json, print_table
from snow.errors import SnowError
from snow.experiments.plan import Demand, Figures, Goal, Planner, TaskMix, plan
from snow.experiments.plan.figures import PiecewiseLinear
from snow.experiments.plan.outcome import Routing
from snow.experiments.plan.table import COLUMNS, rows, summary
from snow.experiments.plots.figure import check
from snow.experiments.plots.plan import draw_plan
from snow.serving.limits import Limits

app = command("plan", "snow plan measured.json --rate 500 --tasks 200 --mix 1:0.7,6:0.3 --goal 150")


@app.default
def plan_command(
    *measured: Path,
    rate: float = 100.0,
    tasks: int | None = None,
    mix: str = "all",
    goal: float = 250.0,
    refused: float = 0.001,
    routing: Routing = "random",
    max_batch: int = Limits.max_batch,
    max_wait: float = Limits.max_wait,
    queue: int = Limits.queue,
    deadline: float = Limits.deadline,
    decoders: int = Limits.decoders,
    memory: float | None = None,
    replicas: Numbers = (),
    pictures: int = 30_000,
    seed: int = 0,
    plot: Path | None = None,
    json: Json = False,
) -> None:
    """Tell how many replicas of `snow serve` a load needs, with how much memory, and how fast they answer.

    One replica is simulated at its share of the load: pictures come at random moments, the service batches them as it
    does, and passes take what was measured. Write the figures on the machine that is to serve, with
    `snow bench serving --source … --tasks 1,6 --out measured.json`.

    Args:
        measured: results of `snow bench serving`, of one run or of several that differ in tasks or sizes.
        rate: pictures a second, to all replicas; one picture a request.
        tasks: in the hub; by default the most that were measured.
        mix: tasks that a picture asks for: all, a number, or numbers with how often they come, as 1:0.7,6:0.3.
        goal: milliseconds in which 99 of 100 pictures are answered.
        refused: part of the pictures that may be refused.
        routing: how a request finds its replica: random, or to the least loaded.
        max_batch: as for `snow serve`, like the next four: pictures in a pass, at most.
        max_wait: milliseconds for which the first picture of a batch waits for others.
        queue: pictures that may be accepted and not answered yet, by each replica.
        deadline: seconds after which a request is refused.
        decoders: threads that decode pictures.
        memory: megabytes of a replica with all its tasks; by default what was measured.
        replicas: numbers to show besides, with commas between.
        pictures: in a simulation.
        seed: of arrivals, of what they ask, and of what passes take.
        plot: picture of latency over replicas (.png, .svg or .pdf).
        json: print {"replicas", "capacity_per_second", "memory_bytes": {"replica", "all"}, "rows": [{"replicas", "met",
            "of_capacity", "utilisation", "p50", "p95", "p99", "refused", "batch", "memory_bytes"}], "notes", …}; times
            in seconds.
    """
    if plot is not None:
        check(plot)
    figures = Figures.read(measured)
    if memory is not None:
        if not 0 < memory < float("inf"):
            raise SnowError(f"--memory is a number of megabytes above 0, not {memory:g}")
        figures = replace(figures, held=PiecewiseLinear(1e6 * memory, 0.0))
    most = (figures.measured or {})["most_tasks"]
    demand = Demand(rate, max(1, most) if tasks is None else tasks, TaskMix.parse(mix))
    limits = Limits(max_batch, max_wait, queue, deadline, max_pictures=1, decoders=decoders)
    planner = Planner(figures, demand, limits, routing, seed, pictures)
    results = plan(planner, Goal(goal / 1000, refused), replicas)
    for line in results["notes"]:
        note(f"note: {line}")
    if plot is not None:
        draw_plan(results, plot)
        note(f"{plot} is drawn")
    if json:
        print_json(results)
        return
    print_table(COLUMNS, rows(results))
    print()
    for line in summary(results):
        print(line)
