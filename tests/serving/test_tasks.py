"""Tasks that are told about, uploaded, replaced and removed while the service answers."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from snow.artifact import Artifact
from snow.errors import SnowError
from snow.hub import Hub, store_of
from snow.serving import app as app_module
from snow.serving import uploads
from snow.serving.errors import RefusedError
from snow.serving.uploads import unpack
from snow.source import Source
from snow.subscribe import Choices

MANAGER = {"Authorization": "Bearer a token"}

Wait = Callable[[Any], None]
Canary = Callable[..., Artifact]


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w", kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def files(canary: Canary, tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """`files(answer)`: those of a canary."""

    def written(answer: int) -> dict[str, bytes]:
        folder = tmp_path / f"canary-{answer}"
        if not folder.exists():
            canary("learned-elsewhere", answer).save(folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    return written


async def told(served: Any, name: str, picture: bytes) -> str:
    """The class that a task finds, or the code of the refusal."""
    response = await served.predict(picture, tasks=name, top_k=1)
    if response.status_code != 200:
        return response.json()["error"]["code"]
    return response.json()["results"][0]["tasks"][name][0]["class"]


async def until(condition: Callable[[], Any]) -> None:
    while not await condition():
        await asyncio.sleep(0.01)


def test_tasks_are_listed_and_described(serve: Any, hub: Hub, canary: Canary, wait: Wait) -> None:
    history = [{"epoch": 1, "loss": float("nan"), "accuracy": 0.5, "validation": None}]
    artifact = canary("canary", 1)
    artifact.metrics.update(test={"top1": 0.75}, history=history)
    hub.add(artifact)
    learned = hub.task("learned").method
    masks = torch.zeros(5, 16, dtype=torch.bool)
    masks[:, 3] = masks[4, 9] = True
    Choices(torch.arange(5), 2, {"layer1": masks}).save(hub.folder("learned") / "choice.safetensors")

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
                tap: mask.nonzero().flatten().tolist() for tap, mask in learned.taken().items()
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
            assert set(pair["taps"]) == set(hub.task("learned").method.taken())

    wait(work())


@pytest.mark.parametrize("way", ["zip", "nested zip", "tar", "tar.gz", "form"])
def test_a_task_is_uploaded_replaced_and_removed(
    serve: Any, files: Any, jpeg: Callable[..., bytes], wait: Wait, way: str, hub: Hub
) -> None:
    def body(content: dict[str, bytes]) -> dict[str, Any]:
        if way == "form":
            return {"files": [("files", (name, one)) for name, one in content.items()]}
        if way == "nested zip":
            content = {"some/where/": b"", "README.md": b"", **{f"some/{name}": one for name, one in content.items()}}
        packed = {"tar": tarred, "tar.gz": lambda one: tarred(one, "w:gz")}.get(way, zipped)(content)
        kind = {"tar": "application/x-tar", "tar.gz": "application/gzip"}.get(way, "application/zip")
        return {"content": packed, "headers": {"content-type": kind}}

    async def put(served: Any, answer: int) -> Any:
        options = body(files(answer))
        headers = {**options.pop("headers", {}), **MANAGER}
        return await served.client.put("/v1/tasks/new", headers=headers, **options)

    async def work() -> None:
        async with serve(poll=60.0) as served:
            response = await put(served, 0)
            assert response.status_code == 201, response.text
            assert (response.json()["name"], response.json()["classes"]) == ("new", 3)
            assert await told(served, "new", jpeg()) == "zero"
            response = await put(served, 2)
            assert response.status_code == 200, response.text
            assert await told(served, "new", jpeg()) == "two"
            assert (await served.client.delete("/v1/tasks/new", headers=MANAGER)).status_code == 204
            assert await told(served, "new", jpeg()) == "unknown_task"
            response = await served.client.delete("/v1/tasks/new", headers=MANAGER)
            assert response.json()["error"]["code"] == "unknown_task"
            assert hub.names() == ["learned"]

    wait(work())


def test_without_the_token_nothing_changes(serve: Any, files: Any, wait: Wait, hub: Hub) -> None:
    content = {"content": zipped(files(1)), "headers": {"content-type": "application/zip"}}

    async def codes(served: Any, header: str | None) -> set[str]:
        headers = {} if header is None else {"Authorization": header}
        put = await served.client.put(
            "/v1/tasks/learned", content=content["content"], headers={**content["headers"], **headers}
        )
        delete = await served.client.delete("/v1/tasks/learned", headers=headers)
        return {(one.status_code, one.json()["error"]["code"]) for one in (put, delete)}

    async def work() -> None:
        before = store_of(hub.path).stamp("learned")
        async with serve() as served:
            for header in (
                None,
                "",
                "Bearer",
                "Bearer ",
                "Bearer a toke",
                "Bearer a token!",
                "Basic a token",
                "a token",
            ):
                assert await codes(served, header) == {(401, "unauthorized")}, header
            assert await codes(served, "Bearer ä".encode()) == {(401, "unauthorized")}
        for token in (None, ""):
            async with serve(token) as served:
                assert (await served.client.get("/v1/tasks")).json()["managed"] is False
                for header in (None, "Bearer a token", "Bearer ", "Bearer None"):
                    assert await codes(served, header) == {(403, "management_off")}
        assert store_of(hub.path).stamp("learned") == before

    wait(work())


def test_uploads_that_are_no_task_of_this_source_leave_the_hub_as_it_is(
    serve: Any, files: Any, make_source: Callable[..., Source], wait: Wait, hub: Hub, tmp_path: Path
) -> None:
    good = files(1)
    foreign = json.loads(good["config.json"])
    foreign["source"]["fingerprint"] = "sha256:0"
    odd = json.loads(good["config.json"])
    odd["classes"] = odd["classes"][:2]
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    cases = [
        (zipped({**good, "config.json": json.dumps(foreign).encode()}), 422, "bad_task"),
        (zipped({**good, "config.json": json.dumps(odd).encode()}), 422, "bad_task"),
        (zipped({**good, "config.json": b"[" * 100_000}), 422, "bad_task"),
        (zipped({**good, "model.safetensors": (tmp_path / "other.safetensors").read_bytes()}), 422, "bad_task"),
        (zipped({**good, "model.safetensors": b"\x80\x04."}), 422, "bad_task"),
        (zipped({**good, "model.pth": b"\x80\x04."}), 422, "bad_task"),
        (zipped({name: one for name, one in good.items() if name != "config.json"}), 422, "bad_task"),
        (zipped({"a/config.json": b"", **good}), 422, "bad_task"),
        (zipped(good)[:-40], 422, "bad_task"),
        (tarred(good)[:700], 422, "bad_task"),
        (gzip.compress(tarred(good))[:200], 422, "bad_task"),
        (tarred(good, kind=tarfile.SYMTYPE), 422, "bad_task"),
        (tarred(good, kind=tarfile.CHRTYPE), 422, "bad_task"),
        (b"", 422, "bad_task"),
        (b"PK\x03\x04", 422, "bad_task"),
        (b"\x1f\x8b\x08", 422, "bad_task"),
        (zipped({**good, "model.safetensors": bytes(3_000_000)}), 413, "too_many_bytes"),
        (tarred({"README.md": bytes(30_000_000)}, "w:gz"), 413, "too_many_bytes"),
        (tarred({**good, "config.json": bytes(30_000_000)}, "w:gz"), 413, "too_many_bytes"),
        (bytes(2_000_001), 413, "too_many_bytes"),
    ]

    async def work() -> None:
        async with serve(max_upload=2_000_000) as served:
            for number, (content, status, code) in enumerate(cases):
                headers = {"content-type": "application/octet-stream", **MANAGER}
                response = await served.client.put("/v1/tasks/learned", content=content, headers=headers)
                assert response.status_code == status, (number, response.text)
                assert response.json()["error"]["code"] == code, (number, response.text)
                assert "/tmp" not in response.text
            for name in ("a%20b", "..%2fx", "con", ".hidden", "a" * 65, "(source)"):
                headers = {"content-type": "application/zip", **MANAGER}
                response = await served.client.put(f"/v1/tasks/{name}", content=zipped(good), headers=headers)
                assert response.json()["error"]["code"] in ("invalid", "not_found"), name
            response = await served.client.put(
                "/v1/tasks/x", content=b"x", headers={**MANAGER, "content-type": "text/plain"}
            )
            assert response.json()["error"]["code"] == "wrong_type"
            assert hub.names() == ["learned"]
            assert (await served.client.get("/v1/tasks/learned")).status_code == 200

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in hub.path.rglob("*") if path.is_file() and path.name != ".lock"}

    before = content()
    wait(work())
    assert content() == before


def test_no_name_in_an_archive_becomes_a_path(files: Any, tmp_path: Path) -> None:
    hostile = {f"../../{name}": one for name, one in files(0).items()}
    for number, pack in enumerate((zipped, tarred)):
        folder = tmp_path / "in" / "here" / str(number)
        folder.mkdir(parents=True)
        before = set(tmp_path.rglob("*"))
        unpack(io.BytesIO(pack(hostile)), folder, 10**7)
        assert {path.parent for path in set(tmp_path.rglob("*")) - before} == {folder}
        for name in ("/etc/passwd", "..", "evil.py", "x/../../evil.json"):
            with pytest.raises(RefusedError, match="no file of a task"):
                unpack(io.BytesIO(pack({name: b"x"})), folder, 10**7)
        assert {path.parent for path in set(tmp_path.rglob("*")) - before} == {folder}


def test_a_full_disk_is_told_and_nothing_is_left(
    serve: Any, files: Any, wait: Wait, hub: Hub, monkeypatch: pytest.MonkeyPatch, jpeg: Callable[..., bytes]
) -> None:
    async def put(served: Any) -> tuple[int, str]:
        headers = {"content-type": "application/zip", **MANAGER}
        response = await served.client.put("/v1/tasks/new", content=zipped(files(1)), headers=headers)
        return response.status_code, response.json()["error"]["code"]

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    async def work() -> None:
        async with serve() as served:
            with monkeypatch.context() as patch:
                patch.setattr(uploads, "_copy", fail)
                assert await put(served) == (507, "disk_full")
            with monkeypatch.context() as patch:
                patch.setattr(shutil, "copyfile", fail)
                assert await put(served) == (507, "disk_full")
            assert await told(served, "learned", jpeg()) in ("zero", "one", "two")
            assert [path.name for path in (hub.path / "tasks").iterdir()] == ["learned"]

    wait(work())


def test_too_many_uploads_at_once_are_refused(
    serve: Any, files: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "UPLOADS", 1)
    content = zipped(files(1))

    async def slow(seconds: float) -> Any:
        yield content[:10]
        await asyncio.sleep(seconds)
        yield content[10:]

    async def put(served: Any, name: str, seconds: float) -> int:
        headers = {"content-type": "application/zip", **MANAGER}
        return (await served.client.put(f"/v1/tasks/{name}", content=slow(seconds), headers=headers)).status_code

    async def work() -> None:
        async with serve() as served:
            first = asyncio.create_task(put(served, "a", 0.2))
            await asyncio.sleep(0.05)
            assert await put(served, "b", 0.0) == 503
            assert await first == 201

    wait(work())


def test_what_is_done_in_the_folder_appears_by_itself(
    serve: Any, hub: Hub, canary: Canary, jpeg: Callable[..., bytes], wait: Wait, resnet: Source
) -> None:
    other = Hub(hub.path, resnet)

    async def work() -> None:
        async with serve() as served:

            async def says(name: str, expected: str) -> None:
                async def so() -> bool:
                    return await told(served, name, jpeg()) == expected

                await until(so)

            await says("new", "unknown_task")
            other.add(canary("new", 1))
            await says("new", "one")
            other.add(canary("new", 2), replace=True)
            await says("new", "two")
            config = hub.folder("new") / "config.json"
            content = config.read_bytes()
            config.write_bytes(content[:-10])
            await says("new", "task_broken")
            everything = (await served.predict(jpeg())).json()
            assert set(everything["results"][0]["tasks"]) == {"learned"}
            assert "config.json" in everything["left_out"]["new"]
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
                    assert tasks["canary"][0]["class"] == "kept"
                    assert tasks["changing"][0]["probability"] == pytest.approx(0.98672, abs=1e-3)
                    seen.add(tasks["changing"][0]["class"])

            async def changing() -> None:
                headers = {"content-type": "application/zip", **MANAGER}
                for number in range(12):
                    content = versions[number % 3]
                    response = await served.client.put("/v1/tasks/changing", content=content, headers=headers)
                    assert response.status_code in (200, 201), response.text
                    expected = ("zero", "one", "two")[number % 3]
                    assert await told(served, "changing", jpeg()) == expected
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
        async with serve(max_wait=300.0) as served:
            asked = asyncio.create_task(told(served, "going", jpeg()))
            while not served.service.batcher.waiting:
                await asyncio.sleep(0.001)
            await served.client.delete("/v1/tasks/going", headers=MANAGER)
            assert await asked == "unknown_task"

    wait(work())
    with pytest.raises(SnowError):
        Hub(hub.path, hub.source).task("going")
