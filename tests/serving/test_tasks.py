"""What the service tells about its tasks."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import torch

from snow.hub import Artifact, Hub
from snow.subscribe import SelectionHistory

Wait = Callable[[Any], None]
Canary = Callable[..., Artifact]


def test_tasks_are_listed_and_described(serve: Any, hub: Hub, canary: Canary, wait: Wait) -> None:
    history = [{"epoch": 1, "loss": float("nan"), "accuracy": 0.5, "validation": None}]
    artifact = canary("canary", 1)
    artifact.metrics.update(test={"top1": 0.75}, history=history)
    hub.add(artifact)
    learned = hub.task("learned").method
    masks = torch.zeros(5, 16, dtype=torch.bool)
    masks[:, 3] = masks[4, 9] = True
    SelectionHistory(torch.arange(5), 2, {"layer1": masks}).save(hub.folder("learned") / "choice.safetensors")

    async def work() -> None:
        async with serve() as served:
            body = (await served.client.get("/v1/tasks")).json()
            assert [one["name"] for one in body["tasks"]] == ["canary", "learned"]
            assert body["tasks"][0]["top1"] == 0.75
            assert body["tasks"][1]["parameters"] == learned.learned_parameters
            assert body["broken"] == {}
            assert body["managed"] is True
            assert body["source"]["fingerprint"] == hub.source.fingerprint
            assert [tap["name"] for tap in body["source"]["taps"]] == [tap.name for tap in hub.source.taps]
            one = (await served.client.get("/v1/tasks/canary")).json()
            assert one["labels"] == ["zero", "one", "two"]
            assert one["history"] == [{**history[0], "loss": None}]
            assert (one["subscribed"], one["overlap"]) == ([], [])
            two = (await served.client.get("/v1/tasks/learned")).json()
            assert {entry["tap"]: entry["chosen"] for entry in two["subscribed"]} == {
                tap: mask.nonzero().flatten().tolist() for tap, mask in learned.selected_mask().items()
            }
            choice = (await served.client.get("/v1/tasks/learned/choice")).json()
            assert (choice["steps"], choice["batches"]) == ([0, 1, 2, 3, 4], 2)
            [tap] = choice["taps"]
            assert (tap["channels"], tap["taken"], tap["ever"]) == (16, 2, 2)
            assert base64.b64decode(tap["rows"]) == b"\x10\x00" * 4 + b"\x10\x40"
            for path, code in (
                ("nobody", "unknown_task"),
                ("nobody/choice", "unknown_task"),
                ("canary/choice", "not_found"),
            ):
                response = await served.client.get(f"/v1/tasks/{path}")
                assert (response.status_code, response.json()["error"]["code"]) == (404, code)

    wait(work())


def test_overlap_with_the_others_is_told_the_closest_first(serve: Any, hub: Hub, wait: Wait) -> None:
    hub.copy(hub.folder("learned"), "twin")

    async def work() -> None:
        async with serve() as served:
            [pair] = (await served.client.get("/v1/tasks/learned")).json()["overlap"]
            assert (pair["task"], pair["iou"]) == ("twin", 1.0)
            assert 0 < pair["chance"] < 0.5
            assert set(pair["taps"]) == set(hub.task("learned").method.selected_mask())

    wait(work())
