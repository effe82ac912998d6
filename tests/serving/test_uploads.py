"""Tasks that are uploaded, replaced and removed while the service answers, and uploads that are refused."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from managing import MANAGER, answer_of, tarred, zipped
from safetensors.torch import save_file

from snow.hub import Artifact, Hub
from snow.hub.listing import store_of
from snow.hub.task_files import FILES
from snow.inference.familiarity import Familiarity
from snow.serving import task_routes, uploads
from snow.serving.errors import RefusedError
from snow.serving.uploads import unpack
from snow.source import Source
from snow.subscribe import SelectionHistory

Wait = Callable[[Any], None]

FROM_A_MAC = {"__MACOSX/some/._config.json": b"\0\5\x16\7", "some/.DS_Store": b"", "some/._model.safetensors": b""}
"""What its archives hold beside the files."""


@pytest.mark.parametrize("way", ["zip", "nested zip", "tar", "tar.gz", "form"])
def test_a_task_is_uploaded_replaced_and_removed(
    serve: Any, files: Any, jpeg: Callable[..., bytes], wait: Wait, way: str, hub: Hub
) -> None:
    def body(content: dict[str, bytes]) -> dict[str, Any]:
        if way == "form":
            return {"files": [("files", (name, one)) for name, one in content.items()]}
        if way == "nested zip":
            content = {
                "some/where/": b"",
                "README.md": b"",
                **FROM_A_MAC,
                **{f"some/{name}": one for name, one in content.items()},
            }
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
            assert await answer_of(served, "new", jpeg()) == "zero"
            response = await put(served, 2)
            assert response.status_code == 200, response.text
            assert await answer_of(served, "new", jpeg()) == "two"
            assert (await served.client.delete("/v1/tasks/new", headers=MANAGER)).status_code == 204
            assert await answer_of(served, "new", jpeg()) == "unknown_task"
            response = await served.client.delete("/v1/tasks/new", headers=MANAGER)
            assert response.json()["error"]["code"] == "unknown_task"
            assert hub.names() == ["learned"]

    wait(work())


def test_every_file_of_a_task_can_be_uploaded(
    serve: Any, canary: Callable[..., Artifact], jpeg: Callable[..., bytes], wait: Wait, hub: Hub, tmp_path: Path
) -> None:
    final, masks = torch.randn(40, hub.source.num_features), {"layer1": torch.zeros(2, 16, dtype=torch.bool)}
    artifact = replace(
        canary("whole", 1),
        familiarity=Familiarity.fit(final, torch.arange(40) % 3),
        selection_history=SelectionHistory(torch.arange(2), 1, masks),
    )
    other = Hub.create(tmp_path / "other", hub.source)
    other.add(artifact)
    content = {path.name: path.read_bytes() for path in other.folder("whole").iterdir()}
    assert set(content) == set(FILES)

    async def work() -> None:
        async with serve() as served:
            packed = {"content": zipped(content), "headers": {"content-type": "application/zip", **MANAGER}}
            response = await served.client.put("/v1/tasks/whole", **packed)
            assert response.status_code == 201, response.text
            answer = (await served.predict(jpeg(), tasks="whole")).json()["results"][0]["tasks"]["whole"]
            assert 0 <= answer["known"] <= 1
            assert {name for name in content if (hub.folder("whole") / name).exists()} == set(FILES)

    wait(work())


def test_without_the_token_nothing_changes(
    serve: Any, files: Any, wait: Wait, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snow.serving.access.WRONG_TOKEN_SECONDS", 0)
    monkeypatch.setattr("snow.serving.access.WRONG_TOKENS", 100)
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
        (zipped({**good, "metrics.json": b'{"a":[' + b"0," * 500_001 + b"0]}"}), 422, "bad_task"),
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
            with pytest.raises(RefusedError, match="is not a file of a task"):
                unpack(io.BytesIO(pack({name: b"x"})), folder, 10**7)
        assert {path.parent for path in set(tmp_path.rglob("*")) - before} == {folder}


def test_a_full_disk_is_told_and_nothing_is_left(
    serve: Any, files: Any, wait: Wait, hub: Hub, monkeypatch: pytest.MonkeyPatch, jpeg: Callable[..., bytes]
) -> None:
    async def put(served: Any) -> tuple[int, str]:
        headers = {"content-type": "application/zip", **MANAGER}
        response = await served.client.put("/v1/tasks/new", content=zipped(files(1)), headers=headers)
        return response.status_code, response.json()["error"]["code"]

    def fail(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    async def work() -> None:
        async with serve() as served:
            with monkeypatch.context() as patch:
                patch.setattr(uploads, "_copy", fail)
                assert await put(served) == (507, "disk_full")
            with monkeypatch.context() as patch:
                patch.setattr(shutil, "copyfile", fail)
                assert await put(served) == (507, "disk_full")
            assert await answer_of(served, "learned", jpeg()) in ("zero", "one", "two")
            assert [path.name for path in (hub.path / "tasks").iterdir()] == ["learned"]

    wait(work())


def test_too_many_uploads_at_once_are_refused(
    serve: Any, files: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_routes, "MAX_UPLOADS", 1)
    content = zipped(files(1))
    begun, may = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        begun.set()
        yield content[:10]
        await may.wait()
        yield content[10:]

    async def put(served: Any, name: str, body: Any) -> int:
        headers = {"content-type": "application/zip", **MANAGER}
        return (await served.client.put(f"/v1/tasks/{name}", content=body, headers=headers)).status_code

    async def work() -> None:
        async with serve() as served:
            first = asyncio.create_task(put(served, "a", slow()))
            await begun.wait()
            assert await put(served, "b", content) == 503
            may.set()
            assert await first == 201

    wait(work())
