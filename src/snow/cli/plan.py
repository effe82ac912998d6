"""`snow plan`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from snow.cli.app import command
from snow.cli.options import Json, Numbers
from snow.cli.output import note, print_json, print_table
from snow.errors import SnowError
from snow.experiments.plan import Demand, Goal, Measurements, Planner, TaskMix, plan_replicas
from snow.experiments.plan.measurements import LinearFit
from snow.experiments.plan.simulation import Routing
from snow.experiments.plan.table import COLUMNS, rows, summary
from snow.experiments.plots.figure import check_picture_path
from snow.experiments.plots.plan import draw_plan
from snow.serving.limits import Limits

app = command("plan", "snow plan measured.json --rate 500 --tasks 200 --mix 1:0.7,6:0.3 --goal 150")

SERVICE = Group("Options of snow serve", sort_key=1)


@dataclass(frozen=True)
class ServiceOptions:
    """Limits of each replica, as for `snow serve`.

    Attributes:
        max_batch: most pictures in a source pass.
        max_wait: milliseconds that the first picture of a batch waits for others.
        queue: pictures that may be accepted and not yet answered.
        deadline: seconds after which a request is refused.
        decoders: threads that decode pictures.
    """

    max_batch: int = Limits.max_batch
    max_wait: float = Limits.max_wait
    queue: int = Limits.queue
    deadline: float = Limits.deadline
    decoders: int = Limits.decoders

    def limits(self) -> Limits:
        return Limits(self.max_batch, self.max_wait, self.queue, self.deadline, max_pictures=1, decoders=self.decoders)


@app.default
def plan_command(
    *measured: Path,
    rate: float = 100.0,
    tasks: int | None = None,
    mix: str = "all",
    goal: float = 250.0,
    refused: float = 0.001,
    routing: Routing = "random",
    memory: float | None = None,
    replicas: Numbers = (),
    pictures: int = 30_000,
    seed: int = 0,
    plot: Path | None = None,
    json: Json = False,
    service: Annotated[ServiceOptions | None, Parameter(name="*", group=SERVICE)] = None,
) -> None:
    """Estimate how many replicas of `snow serve` a load needs, how much memory they take, and how fast they answer.

    One replica is simulated at its share of the load: pictures arrive at random, the service batches them, and source
    passes take the measured times. Measure on the machine that will serve:
    `snow bench serving --source … --tasks 1,6 --out measured.json`.

    Args:
        measured: results of `snow bench serving`; several files may differ in tasks and sizes.
        rate: pictures per second, to all replicas together; one picture per request.
        tasks: number of tasks in the hub; by default the most that were measured.
        mix: tasks per picture: all, a number, or numbers with weights such as 1:0.7,6:0.3.
        goal: milliseconds within which 99 % of the pictures are answered.
        refused: fraction of the pictures that may be refused.
        routing: how requests are routed to replicas: at random, or to the least loaded one.
        memory: megabytes of a replica with all its tasks; by default as measured.
        replicas: comma-separated numbers of replicas to show as well.
        pictures: number of pictures to simulate.
        seed: random seed of the simulation.
        plot: write a plot of latency over replicas (.png, .svg or .pdf).
        json: print {"replicas", "capacity_per_second", "memory_bytes": {"replica", "all"}, "rows": [{"replicas", "met",
            "of_capacity", "utilisation", "p50", "p95", "p99", "refused", "batch", "memory_bytes"}], "notes", …}; times
            are in seconds.
    """
    if plot is not None:
        check_picture_path(plot)
    measurements = _read(measured, memory)
    most_tasks = (measurements.measured or {})["most_tasks"]
    demand = Demand(rate, max(1, most_tasks) if tasks is None else tasks, TaskMix.parse(mix))
    planner = Planner(measurements, demand, (service or ServiceOptions()).limits(), routing, seed, pictures)
    results = plan_replicas(planner, Goal(goal / 1000, refused), replicas)
    for line in results["notes"]:
        note(f"note: {line}")
    if plot is not None:
        draw_plan(results, plot)
        note(f"wrote {plot}")
    if json:
        print_json(results)
        return
    print_table(COLUMNS, rows(results))
    print("", *summary(results), sep="\n")


def _read(files: tuple[Path, ...], megabytes: float | None) -> Measurements:
    measurements = Measurements.read(files)
    if megabytes is None:
        return measurements
    if not 0 < megabytes < float("inf"):
        raise SnowError(f"--memory must be a number of megabytes above 0, not {megabytes:g}")
    return replace(measurements, memory_bytes=LinearFit(1e6 * megabytes, 0.0))
