"""Check `snow plan` against a real service: measure the engine, run and load the service, and compare both.

`python benchmarks/plan_check.py --out results.json` creates a hub with random weights, measures passes and requests as
`snow bench serving` does, starts `snow serve` on this machine and loads it from this process: first with clients that
each send a new request after every answer (its capacity), then with random arrivals at fractions of that capacity. A
machine's speed drifts, so all of this is done several times: a plan is made from each measurement, and the median of
the plans is compared with the median of the loads.

The clients share the machine with the service, as they do where `snow bench serving` measures. The plan uses nothing of
the loads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
from serving_load import TIMEOUT, Load, measured, pictures, until_ready

from snow.experiments.bench.service import service_cost
from snow.experiments.bench.serving import ServingBench, on_disk
from snow.experiments.plan import Demand, Measurements, Outcome, Planner
from snow.experiments.plan.table import CHECK_COLUMNS, check_rows, compare_figures
from snow.experiments.results.record import provenance
from snow.process.startup import keep_freed_memory
from snow.process.subprocesses import interleaved
from snow.serving.limits import Limits

SIZES = (1, 2, 4, 8, 16)

LEFT_OUT = ("batch_size", "source", "snow", "hub", "service")
"""Keys of the results of `snow bench serving` that say nothing here."""


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measured_figures(bench: ServingBench, path: Path, tasks: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure what a plan reads from the results of `snow bench serving`."""
    sizes = sorted({size for size in SIZES if size <= options.max_batch} | {options.max_batch})
    frame = (options.width, options.height)
    cost = partial(service_cost, path, bench.engine, bench.device, (1, tasks), sizes, options.rounds, frame)
    *_, samples = interleaved({"the service": cost}, 1, log)
    service = samples["the service"][0]
    return {
        **provenance(),
        "source_name": bench.source,
        "image_size": bench.image_size,
        "engine": bench.engine,
        "device": bench.device,
        "method": bench.snow.label,
        "batch_size": bench.batch_size,
        "source": {},
        "snow": {},
        "hub": {"tasks": tasks, "resident_bytes": service["resident_bytes"], "bytes_a_task": 0},
        "service": service,
    }


async def loaded(path: Path, options: argparse.Namespace, rates: Mapping[str, float]) -> dict[str, Any]:
    """Load the service; return load -> its figures, with the CPU time per request of clients and service.

    `rates` are those of earlier loads; if there are none, they are fractions of the capacity that is measured.
    """
    contents = pictures(options.width, options.height)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "snow", "serve", str(path), "--port", str(port), "--max-pictures", "1"]
    command += ["--max-batch", str(options.max_batch), "--max-wait", str(options.max_wait)]
    command += ["--queue", str(options.queue)]
    service = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    loads: dict[str, Any] = {}
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT, limits=limits) as client:
            await until_ready(client, service)
            clients = 2 * options.max_batch
            await Load(client, contents).closed(clients, 3.0)

            async def run_load(name: str, load: Callable[[Load], Awaitable[None]]) -> dict[str, Any]:
                log(f"{name} …")
                client_start, service_start = time.process_time(), processor_seconds(service.pid)
                figures = await measured(client, contents, load, service.pid)
                requests = figures["requests"]
                figures["client_seconds"] = (time.process_time() - client_start) / requests
                figures["service_seconds"] = (processor_seconds(service.pid) - service_start) / requests
                loads[name] = figures
                return figures

            capacity = await run_load("capacity", lambda load: load.closed(clients, options.seconds / 3))
            for fraction in options.loads:
                name = f"{100 * fraction:g} %"
                rate = rates.get(name, fraction * capacity["per_second"])
                figures = await run_load(name, lambda load, rate=rate: load.opened(rate, options.seconds))
                figures["rate"] = rate
    finally:
        service.terminate()
        service.wait(60)
    return loads


def processor_seconds(process: int) -> float:
    """CPU seconds of a process so far; 0 if the system does not report them."""
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def compared(
    measured: Sequence[Mapping[str, Any]], loads: Sequence[Mapping[str, Any]], tasks: int, limits: Limits
) -> dict[str, Any]:
    """Plan from each measurement by itself, and compare the plans with the loads; load -> figure -> both."""
    measurements = [Measurements.of([("this run", one)]) for one in measured]
    comparison = {}
    for name, figures in loads[0].items():
        planners = [Planner(one, Demand(figures.get("rate", 1.0), tasks), limits) for one in measurements]
        plans = [
            milliseconds(planner.outcome(1)) if "rate" in figures else {"per_second": planner.capacity()}
            for planner in planners
        ]
        comparison[name] = compare_figures([load[name] for load in loads], plans)
    return comparison


def milliseconds(outcome: Outcome) -> dict[str, float]:
    return {name: (1000 if name in ("p50", "p95", "p99") else 1) * value for name, value in asdict(outcome).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="embedded")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--tasks", type=int, default=6)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.4, 0.7], help="fractions of the capacity")
    parser.add_argument("--seconds", type=float, default=45.0, help="per load; the capacity takes a third")
    parser.add_argument("--repeats", type=int, default=3, help="times that everything is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--max-wait", type=float, default=4.0, help="milliseconds")
    parser.add_argument("--queue", type=int, default=256)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the service does
    bench = ServingBench(options.source, options.image_size, tasks=(max(1, options.tasks - 1),), engine=options.engine)
    tasks = max(bench.tasks) + 1  # on_disk adds one more
    limits = Limits(options.max_batch, options.max_wait, options.queue, max_pictures=1)
    measured, loads, rates = [], [], dict[str, float]()
    with on_disk(bench, log) as path:
        for _ in range(options.repeats):
            measured.append(measured_figures(bench, path, tasks, options))
            loads.append(asyncio.run(loaded(path, options, rates)))
            rates = {name: figures["rate"] for name, figures in loads[0].items() if "rate" in figures}
    results = {name: value for name, value in measured[0].items() if name not in LEFT_OUT} | {
        **{name: getattr(options, name) for name in ("seconds", "repeats", "max_batch", "max_wait", "queue")},
        "tasks": tasks,
        "picture": {"width": options.width, "height": options.height},
        "services": [one["service"] for one in measured],
        "loads": loads,
        "planned": compared(measured, loads, tasks, limits),
    }
    for line in [CHECK_COLUMNS, *check_rows(results)]:
        print("".join(f"{cell:<24}" for cell in line))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
