"""A service under attack, and one good client beside each attack.

A hub of 30 tasks that have learned nothing, on the embedded source, is served in a process of its own and attacked over
the loopback interface, one kind of attack after the other, for a bounded time each. Meanwhile one client sends a
photograph every third of a second. It reports what that client gets, and what memory the service keeps:

- **answered**: the share of the good client's requests with status 200; at least 99 %.
- **p99**: of the good client's latency; under 2 s.
- **memory**: of the service and its decoding processes, before the first attack, at most, and after each; back to
  within 10 %. Before and after, the service was idle for five seconds.

The good client has the address of the attackers. That is the harder case: the service cannot tell them apart by it.
Attacks with uploads have the token.

    python benchmarks/under_fire.py --out benchmarks/results/under-fire.json

Attacks that are named by `--attack` are added to the results that are there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from attacks import ATTACKS, TOKEN, exchange, photograph, request

PERIOD = 1 / 3
SETTLE_SECONDS = 5.0
START_SECONDS = 180.0
TASKS, IMAGE_SIZE = 30, 224


def memory(pid: int) -> int:
    """Resident bytes of a process and all below it, without what they share."""
    total = 0
    pids = [pid]
    for parent in pids:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
            text = Path(f"/proc/{parent}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return total


async def attack_for(name: str, port: int, hub: Path) -> None:
    """Attack until standard input is closed."""
    attack, stop = ATTACKS[name](hub / "tasks" / "t0000"), asyncio.Event()
    attacking = asyncio.create_task(attack(port, stop))
    print("attacking", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await attacking


async def measure(port: int, pid: int, attack: str, hub: Path, picture: bytes, seconds: float) -> dict[str, Any]:
    """Attack a service for some seconds, and be a good client of it."""
    statuses, times, peak = Counter[str](), list[float](), 0
    content = request(picture, "image/jpeg")

    async def good() -> None:
        started = time.perf_counter()
        statuses[str(await exchange(port, content))] += 1
        times.append(time.perf_counter() - started)

    command = [sys.executable, __file__, "--attacker", attack, "--port", str(port), str(hub)]
    attacker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # it delays only the service
    assert attacker.stdout is not None
    await asyncio.to_thread(attacker.stdout.readline)
    waiting = []
    for number in range(round(seconds / PERIOD)):
        waiting.append(asyncio.create_task(good()))
        await asyncio.sleep(PERIOD)
        if number % 6 == 5:
            peak = max(peak, await asyncio.to_thread(memory, pid))
    await asyncio.gather(*waiting)
    await asyncio.to_thread(attacker.communicate)
    await asyncio.sleep(SETTLE_SECONDS)
    times.sort()
    return {
        "requests": len(times),
        "statuses": dict(statuses),
        "answered": statuses["200"] / len(times),
        "p50": times[len(times) // 2],
        "p99": times[min(len(times) - 1, int(0.99 * len(times)))],
        "peak": peak,
        "after": await asyncio.to_thread(memory, pid),
    }


async def run(
    port: int, process: subprocess.Popen[bytes], hub: Path, chosen: list[str], seconds: float
) -> dict[str, Any]:
    picture = photograph()
    begun = time.monotonic()
    while await exchange(port, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") != 200:
        if process.poll() is not None or time.monotonic() - begun > START_SECONDS:
            raise SystemExit("the service does not start")
        await asyncio.sleep(0.2)
    for _ in range(20):
        await exchange(port, request(picture, "image/jpeg"))
    await asyncio.sleep(SETTLE_SECONDS)
    before = memory(process.pid)
    results = {}
    for name in chosen or ATTACKS:
        results[name] = measured = {"before": before} | await measure(port, process.pid, name, hub, picture, seconds)
        megabytes = " -> ".join(f"{value / 2**20:.0f}" for value in (before, measured["peak"], measured["after"]))
        latency = f"p50 {measured['p50']:.2f} s, p99 {measured['p99']:.2f} s"
        print(f"{name:36} answered {measured['answered']:7.1%}, {latency}, memory {megabytes} MB", flush=True)
    return {"seconds": seconds, "settle": SETTLE_SECONDS, "attacks": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hub", type=Path, nargs="?", help="by default one that is made")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack")
    parser.add_argument("--attack", action="append", default=[], help="name of an attack; by default all")
    parser.add_argument("--attacker", help="only attack the service at --port, until standard input ends")
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    if arguments.attacker:
        asyncio.run(attack_for(arguments.attacker, arguments.port, arguments.hub))
        return
    from many_tasks import make_hub  # imports torch, which an attacker does not need

    from snow.experiments.results.record import provenance

    with tempfile.TemporaryDirectory() as folder:
        hub = arguments.hub or Path(folder) / "hub"
        if arguments.hub is None:
            make_hub(hub, TASKS, IMAGE_SIZE)
        results = serve_and_attack(hub, arguments.attack, arguments.seconds)
    if arguments.out:
        earlier = json.loads(arguments.out.read_text("utf-8"))["attacks"] if arguments.out.exists() else {}
        results["attacks"] = {name: (earlier | results["attacks"]).get(name) for name in ATTACKS}
        results["attacks"] = {name: measured for name, measured in results["attacks"].items() if measured}
        arguments.out.write_text(json.dumps({**results, **provenance()}, indent=2) + "\n", "utf-8")


def serve_and_attack(hub: Path, chosen: list[str], seconds: float) -> dict[str, Any]:
    """Serve a hub in a process of its own, and measure the chosen attacks, or all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "snow", "serve", str(hub), "--port", str(port)]
    environment = {**os.environ, "SNOW_TOKEN": TOKEN}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        return asyncio.run(run(port, process, hub, chosen, seconds))
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
