"""Does `snow plan` say what a service does? Measures the engine, serves, loads it, and sets plan and service side by
side.

`python benchmarks/plan_check.py --out results.json` makes a hub of random weights, measures passes and requests as
`snow bench serving` does, starts `snow serve` on this machine and loads it from this process: by clients that each ask
again once they are answered (its capacity), then at random moments at parts of that capacity. A machine's speed drifts:
passes and requests are measured again at the end, and the plan has both.

The clients share the machine with the service: the processor time that they take for a request is measured and given to
the plan, as a part of each request. Nothing else of the loads is.
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
from collections.abc import Awaitable, Callable
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


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measured_figures(work: ServingBench, path: Path, tasks: int, options: argparse.Namespace) -> dict[str, Any]:
    """What `snow bench serving` writes, without what a plan does not read."""
    sizes = sorted({size for size in SIZES if size <= options.max_batch} | {options.max_batch})
    frame = (options.width, options.height)
    cost = partial(service_cost, path, work.engine, work.device, (1, tasks), sizes, options.rounds, frame)
    *_, found = interleaved({"the service": cost}, 1, tell)
    service = found["the service"][0]
    return {
        **provenance(),
        "source_name": work.source,
        "image_size": work.image_size,
        "engine": work.engine,
        "device": work.device,
        "method": work.snow.label,
        "batch_size": work.batch_size,
        "source": {},
        "snow": {},
        "hub": {"tasks": tasks, "resident_bytes": service["resident_bytes"], "bytes_a_task": 0},
        "service": service,
    }


async def loaded(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """By load what the service did, and the processor time of a request, here and there."""
    contents = pictures(options.width, options.height)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "snow", "serve", str(path), "--port", str(port), "--max-pictures", "1"]
    command += ["--max-batch", str(options.max_batch), "--max-wait", str(options.max_wait)]
    command += ["--queue", str(options.queue)]
    service = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    found: dict[str, Any] = {}
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT, limits=limits) as client:
            await until_ready(client, service)
            clients = 2 * options.max_batch
            await Load(client, contents).closed(clients, 3.0)

            async def under(name: str, load: Callable[[Load], Awaitable[None]]) -> dict[str, Any]:
                tell(f"{name} …")
                mine, its = time.process_time(), processor_seconds(service.pid)
                one = await measured(client, contents, load, service.pid)
                one["client_seconds"] = (time.process_time() - mine) / one["requests"]
                one["service_seconds"] = (processor_seconds(service.pid) - its) / one["requests"]
                found[name] = one
                return one

            full = await under("capacity", lambda load: load.closed(clients, options.seconds / 3))
            for part in options.loads:
                rate = part * full["per_second"]
                one = await under(f"{100 * part:g} %", lambda load, rate=rate: load.opened(rate, options.seconds))
                one["rate"] = rate
    finally:
        service.terminate()
        service.wait(60)
    return found


def processor_seconds(process: int) -> float:
    """That a process has taken so far; 0 where the system does not tell."""
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def milliseconds(outcome: Outcome) -> dict[str, float]:
    return {name: (1000 if name in ("p50", "p95", "p99") else 1) * value for name, value in asdict(outcome).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="embedded")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--tasks", type=int, default=6)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.4, 0.7], help="parts of the capacity")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load; a third of it for the capacity")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--max-wait", type=float, default=4.0, help="milliseconds")
    parser.add_argument("--queue", type=int, default=256)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the service does
    work = ServingBench(options.source, options.image_size, tasks=(max(1, options.tasks - 1),), engine=options.engine)
    tasks = max(work.tasks) + 1  # what is on the disk is one more
    limits = Limits(options.max_batch, options.max_wait, options.queue, max_pictures=1)
    with on_disk(work, tell) as path:
        results = measured_figures(work, path, tasks, options)
        found = asyncio.run(loaded(path, options))
        after = measured_figures(work, path, tasks, options)
    measurements = Measurements.of([("before", results), ("after", after)])
    side_by_side = {}
    for name, one in found.items():
        planner = Planner(
            measurements.with_extra_handling(one["client_seconds"]), Demand(one.get("rate", 1.0), tasks), limits
        )
        plan = milliseconds(planner.outcome(1)) if "rate" in one else {"per_second": planner.capacity()}
        side_by_side[name] = compare_figures(one, plan)
    results |= {
        **{name: getattr(options, name) for name in ("seconds", "max_batch", "max_wait", "queue")},
        "tasks": tasks,
        "picture": {"width": options.width, "height": options.height},
        "service_afterwards": after["service"],
        "loads": found,
        "planned": side_by_side,
    }
    for name in ("batch_size", "source", "snow", "hub"):
        del results[name]
    for line in [CHECK_COLUMNS, *check_rows(results)]:
        print("".join(f"{cell:<18}" for cell in line))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
