"""Who may change tasks, from where, and what a hub that cannot be written says."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")

from managing import MANAGER, zipped

from snow.errors import SnowError
from snow.hub import Hub
from snow.serving import access
from snow.serving.access import Address, check_token, is_local
from snow.serving.errors import RefusedError
from snow.serving.limits import RateLimiter
from snow.serving.spool import Spool, remove_abandoned
from snow.serving.uploads import storage_refusal

Wait = Callable[[Any], None]


def test_short_tokens_are_refused_where_others_can_connect(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SnowError, match="4 characters: use 16"):
        check_token("abcd", "0.0.0.0")
    check_token("abcd", "127.0.0.1")
    assert "use 16" in caplog.text
    caplog.clear()
    check_token("0123456789abcdef", "0.0.0.0")
    check_token(None, "0.0.0.0")
    assert caplog.text == ""


def test_wrong_tokens_are_late_counted_and_logged(
    serve: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both the clock that wrong tokens are counted by and that of the wait before an answer stand still."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(access, "RateLimiter", partial(RateLimiter, clock=lambda: 0.0))
    monkeypatch.setattr(access, "asyncio", SimpleNamespace(sleep=sleep))

    async def work() -> None:
        async with serve() as served:
            codes = []
            for number in range(30):
                headers = {"Authorization": f"Bearer {number}"}
                response = await served.client.delete("/v1/tasks/x%0A%1b[2J", headers=headers)
                codes.append(response.status_code)
        assert codes == [401] * access.WRONG_TOKENS + [429] * (30 - access.WRONG_TOKENS)
        assert waited == [access.WRONG_TOKEN_SECONDS] * access.WRONG_TOKENS

    with caplog.at_level(logging.WARNING, "snow.serving"):
        wait(work())
    lines = [record.getMessage() for record in caplog.records if "unauthorized" in record.getMessage()]
    assert len(lines) == access.WRONG_TOKENS
    assert not any(mark in line for line in lines for mark in "\n\x1b")


def test_pages_of_other_sites_change_nothing(serve: Any, wait: Wait) -> None:
    async def work() -> None:
        async with serve() as served:
            for headers, status in (
                ({"Origin": "http://evil.example"}, 403),
                ({"Origin": "null"}, 403),
                ({"Sec-Fetch-Site": "cross-site"}, 403),
                ({"Sec-Fetch-Site": "same-site", "Origin": "http://x"}, 403),
                ({"Origin": "http://x"}, 404),
                ({"Sec-Fetch-Site": "same-origin", "Origin": "http://x"}, 404),
                ({"Sec-Fetch-Site": "none"}, 404),
            ):
                response = await served.client.delete("/v1/tasks/nothing", headers={**MANAGER, **headers})
                assert response.status_code == status, headers
                assert "access-control-allow-origin" not in response.headers

    wait(work())


def test_a_host_on_this_machine_has_a_name_of_this_machine() -> None:
    assert all(map(is_local, ("localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "LOCALHOST.", "a.localhost")))
    assert not any(map(is_local, ("0.0.0.0", "example.org", "127.0.0.1.evil.example", "", "192.0.2.1", "1270.0.0.1")))
    assert Address().known_hosts == ()
    assert Address("0.0.0.0").known_hosts is None
    assert Address("0.0.0.0", allowed_host=("snow.example.org",)).known_hosts == ("snow.example.org",)
    for origin in ("*", "example.org", "https://example.org/", "https://example.org/a", "file://x"):
        with pytest.raises(SnowError, match="--cors-origin"):
            Address(cors_origin=(origin,))
    with pytest.raises(SnowError, match="--port"):
        Address(port=0)


def test_other_hosts_and_origins_are_let_in_only_by_option(hub: Hub, wait: Wait) -> None:
    import httpx2 as httpx

    from snow.serving.app import create_app
    from snow.serving.service import Service

    async def work() -> None:
        app = create_app(Service(hub), None, ("snow.example.org",), ("https://page.example",))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:
            for host, status in (
                ("localhost:8000", 200),
                ("127.0.0.1:8000", 200),
                ("[::1]:8000", 200),
                ("snow.example.org", 200),
                ("SNOW.example.org:443", 200),
                ("evil.example", 421),
                ("evil.example:8000", 421),
                ("127.0.0.1.evil.example", 421),
                ("localhost@evil.example", 421),
            ):
                response = await client.get("http://x/v1/tasks", headers={"Host": host})
                assert response.status_code == status, host
            headers = {"Host": "localhost", "Origin": "https://page.example"}
            response = await client.post("http://x/v1/predict", headers=headers)
            assert response.headers["access-control-allow-origin"] == "https://page.example"
            headers["Origin"] = "https://evil.example"
            response = await client.post("http://x/v1/predict", headers=headers)
            assert "access-control-allow-origin" not in response.headers

    wait(work())


def test_details_of_http(serve: Any, wait: Wait) -> None:
    async def work() -> None:
        async with serve() as served:
            for path, allowed in (
                ("/v1/tasks/learned", "DELETE, GET, HEAD, PUT"),
                ("/v1/tasks", "GET, HEAD"),
                ("/v1/predict", "POST"),
                ("/", "GET, HEAD"),
            ):
                response = await served.client.patch(path)
                assert (response.status_code, response.headers["allow"]) == (405, allowed)
            for path in ("/", "/healthz", "/v1/tasks", "/openapi.json", "/page/page.js"):
                got, head = await served.client.get(path), await served.client.head(path)
                assert (head.status_code, head.content) == (got.status_code, b""), path
                assert head.headers["content-length"] == got.headers["content-length"]
            assert (await served.client.head("/v1/predict")).status_code == 405

    wait(work())


def test_a_hub_that_cannot_be_written_is_called_that(
    serve: Any, files: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        try:
            raise OSError(30, os.strerror(30))
        except OSError as error:
            raise SnowError("cannot be changed") from error

    async def work() -> None:
        async with serve() as served:
            monkeypatch.setattr(served.service.hub, "copy", fail)
            monkeypatch.setattr(served.service.hub, "remove", fail)
            headers = {**MANAGER, "content-type": "application/zip"}
            put = await served.client.put("/v1/tasks/learned", content=zipped(files(1)), headers=headers)
            delete = await served.client.delete("/v1/tasks/learned", headers=MANAGER)
            assert [one.json()["error"]["code"] for one in (put, delete)] == ["read_only", "read_only"]

    wait(work())
    assert storage_refusal(ValueError("x")) is None
    refusal = storage_refusal(PermissionError(13, "Permission denied"))
    assert isinstance(refusal, RefusedError)


def test_a_folder_that_is_removed_before_it_is_locked_is_made_again(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    create, removed = tempfile.mkdtemp, []

    def create_and_remove(**options: Any) -> str:
        path = create(**options)
        if len(removed) < 2:
            removed.append(path)
            remove_abandoned(tmp_path)
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", create_and_remove)
    spool = Spool()
    assert spool.path.exists()
    assert len(removed) == 2
    spool.close()


def test_what_a_kill_left_behind_is_removed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    abandoned = tmp_path / "snow-upload-x"
    (abandoned / "y").mkdir(parents=True)
    (abandoned / "y" / "model.safetensors").write_bytes(b"x")
    (tmp_path / "snow-upload-link").symlink_to(tmp_path)
    (tmp_path / "other").mkdir()
    running = Spool()
    assert not abandoned.exists()
    another = Spool()
    assert running.path.exists()
    with another.folder() as folder:
        assert os.path.dirname(folder) == str(another.path)
    for spool in (running, another):
        spool.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "snow-upload-link"]
