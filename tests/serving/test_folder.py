"""What is done in the folder of a hub while it is served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from clock import Clock
from managing import MANAGER, answer_of, zipped

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.source import Source

Wait = Callable[[Any], None]
Canary = Callable[..., Artifact]


async def until(condition: Callable[[], Any]) -> None:
    while not await condition():
        await asyncio.sleep(0.01)


def test_what_is_done_in_the_folder_appears_by_itself(
    serve: Any, hub: Hub, canary: Canary, jpeg: Callable[..., bytes], wait: Wait, resnet: Source
) -> None:
    other = Hub(hub.path, resnet)

    async def work() -> None:
        async with serve() as served:

            async def says(name: str, expected: str) -> None:
                async def so() -> bool:
                    return (await answer_of(served, name, jpeg())).startswith(expected)

                await until(so)

            await says("new", "unknown_task")
            other.add(canary("new", 1))
            await says("new", "one")
            other.add(canary("new", 2), replace=True)
            await says("new", "two")
            config = hub.folder("new") / "config.json"
            content = config.read_bytes()
            config.write_bytes(content[:-10])
            await says("new", "config.json cannot be read")
            everything = (await served.predict(jpeg())).json()["results"][0]["tasks"]
            assert everything["learned"]["kind"] == "class"
            assert everything["new"].keys() == {"error"}
            shown = await served.client.get("/v1/tasks/new")
            assert (shown.status_code, shown.json()["error"]["code"]) == (503, "task_broken")
            assert 'snow_task_failures_total{task="new"}' in (await served.client.get("/metrics")).text
            assert set((await served.client.get("/v1/tasks")).json()["broken"]) == {"new"}
            assert 'snow_tasks{state="broken"} 1.0' in (await served.client.get("/metrics")).text
            config.write_bytes(content)
            await says("new", "two")
            other.remove("new")
            await says("new", "unknown_task")
            assert 'task="new"' not in (await served.client.get("/metrics")).text

    wait(work())


def test_a_task_that_is_replaced_all_the_time_never_gives_another_ones_answer(
    serve: Any, hub: Hub, canary: Canary, jpeg: Callable[..., bytes], wait: Wait, files: Any
) -> None:
    """Versions have classes of their own: an answer that mixes two would have a class that neither has."""
    hub.add(canary("canary", 0, ("kept", "x")))
    versions = [zipped(files(answer)) for answer in (0, 1, 2)]

    async def work() -> None:
        async with serve() as served:
            over = asyncio.Event()
            seen: set[str] = set()

            async def asking() -> None:
                while not over.is_set():
                    response = await served.predict(jpeg(), tasks="canary,changing", top_k=1)
                    if response.status_code == 404:
                        assert not seen
                        await asyncio.sleep(0.01)
                        continue
                    assert response.status_code == 200, response.text
                    tasks = response.json()["results"][0]["tasks"]
                    assert tasks["canary"]["classes"][0]["class"] == "kept"
                    assert tasks["changing"]["classes"][0]["probability"] == pytest.approx(0.98672, abs=1e-3)
                    seen.add(tasks["changing"]["classes"][0]["class"])

            async def changing() -> None:
                headers = {"content-type": "application/zip", **MANAGER}
                for number in range(12):
                    content = versions[number % 3]
                    response = await served.client.put("/v1/tasks/changing", content=content, headers=headers)
                    assert response.status_code in (200, 201), response.text
                    expected = ("zero", "one", "two")[number % 3]
                    assert await answer_of(served, "changing", jpeg()) == expected
                over.set()

            await asyncio.gather(changing(), *(asking() for _ in range(4)))
            assert seen == {"zero", "one", "two"}

    wait(work())


def test_a_hub_without_tasks_says_so(serve: Any, hub: Hub, jpeg: Callable[..., bytes], wait: Wait) -> None:
    hub.remove("learned")

    async def work() -> None:
        async with serve() as served:
            assert (await served.client.get("/readyz")).json() == {"status": "ready"}
            response = await served.predict(jpeg())
            assert (response.status_code, response.json()["error"]["code"]) == (409, "no_tasks")

    wait(work())


def test_a_task_that_goes_while_a_request_for_it_waits_is_unknown(
    serve: Any, hub: Hub, canary: Canary, jpeg: Callable[..., bytes], wait: Wait
) -> None:
    hub.add(canary("going", 1))

    async def work() -> None:
        async with serve(max_wait=100_000) as served:
            clock = Clock()
            asked = asyncio.create_task(answer_of(served, "going", jpeg()))
            while not served.service.batcher.waiting:
                await asyncio.sleep(0.001)
            await served.client.delete("/v1/tasks/going", headers=MANAGER)
            clock.turn(100)
            assert await asked == "unknown_task"

    wait(work())
    with pytest.raises(SnowError):
        Hub(hub.path, hub.source).task("going")
