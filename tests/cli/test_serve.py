"""`snow serve`: what it refuses before it listens. How it serves is in tests/serving."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--port", "0"), "--port must be between 1 and 65535, not 0"),
        (("--port", "many"), "--port"),
        (("--cors-origin", "example.org"), "--cors-origin 'example.org' is not an origin"),
        (("--host", "0.0.0.0", "--token", "abcd"), "the token has 4 characters: use 16 or more"),
        (("--host", "0.0.0.0", "--token", "abcd", "--engine", "ray"), "the token has 4 characters: use 16 or more"),
        (("--max-batch", "0"), "max_batch must be at least 1, not 0"),
        (("--deadline", "-1"), "deadline must be a number of seconds above 0"),
        (("--max-wait", "nan"), "max_wait must be zero or more, not nan"),
        (("--queue", "10"), "a request of 64 pictures never fits in a queue of 10"),
        (("--engine", "slow"), "no engine 'slow'"),
        (("--engine", "ray:slow"), "no engine 'slow'"),
        (("--replicas", "2"), "replicas need --engine ray"),
        (("--engine", "ray", "--replicas", "0"), "replicas must be at least 1, not 0"),
        (
            ("--engine", "ray", "--replicas", "3", "--max-replicas", "2"),
            "max_replicas must be at least replicas, 3, not 2",
        ),
        (("--engine", "ray", "--replica-cpus", "0"), "replica_cpus must be at least 1, not 0"),
        (("--engine", "ray", "--replica-gpus", "-1"), "replica_gpus must be zero or more, not -1"),
    ],
)
def test_impossible_options_are_refused(refused: Refused, hub: Path, options: tuple[str, ...], told: str) -> None:
    pytest.importorskip("fastapi")
    assert told in refused("serve", hub, *options)


def test_a_folder_that_is_no_hub_is_refused(refused: Refused, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    assert "is not a hub" in refused("serve", tmp_path / "missing")


def test_without_the_extra_it_says_what_to_install(
    refused: Refused, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [name for name in sys.modules if name.startswith("snow.serving.server")]:
        monkeypatch.delitem(sys.modules, name)
    assert "snow serve needs uvicorn: pip install 'snow-cnn[serve]'" in refused("serve", hub)


def test_without_ray_it_says_what_to_install(refused: Refused, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("on_ray", "replica"):
        monkeypatch.delitem(sys.modules, f"snow.serving.{name}", raising=False)
    told = refused("serve", hub, "--engine", "ray")
    assert "snow serve --engine ray needs ray: pip install 'snow-cnn[ray]'" in told


def test_replicas_have_the_options_and_the_folder_under_its_full_name(
    hub: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    pytest.importorskip("fastapi")
    called: list[tuple[Any, ...]] = []
    fake = ModuleType("snow.distributed.service")
    fake.serve_on_ray = lambda *arguments: called.append(arguments)  # ty: ignore[unresolved-attribute]
    monkeypatch.setitem(sys.modules, "snow.distributed.service", fake)
    monkeypatch.chdir(hub.parent)
    options = ("--engine", "ray:eager", "--replicas", "2", "--max-replicas", "4", "--queue", "99")
    assert run("serve", hub.name, *options, "--device", "cuda").code == 0
    [(served, replicas, access_log, _)] = called
    assert (served.hub, served.engine, served.device, served.limits.queue) == (hub.resolve(), "eager", "cuda", 99)
    assert (replicas.replicas, replicas.most, replicas.gpus("cuda"), replicas.gpus("cpu")) == (2, 4, 1.0, 0.0)
    assert (served.address.host, served.address.port, access_log) == ("127.0.0.1", 8000, False)


def test_a_token_may_come_from_the_environment(hub: Path, monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    server = pytest.importorskip("snow.serving.server")
    from snow.serving.access import Address

    served: list[tuple[Any, ...]] = []
    monkeypatch.setattr(server, "serve", lambda *arguments: served.append(arguments))
    monkeypatch.setenv("SNOW_TOKEN", "a-secret-of-some-length")
    options = (
        "--max-batch",
        "3",
        "--port",
        "8001",
        "--allowed-host",
        "a.example",
        "--cors-origin",
        "https://b.example",
    )
    assert run("serve", hub, *options).code == 0
    [(service, address, token, access_log)] = served
    assert address == Address("127.0.0.1", 8001, ("a.example",), ("https://b.example",))
    assert (token, access_log) == ("a-secret-of-some-length", False)
    assert service.limits.max_batch == 3


@pytest.mark.parametrize(("options", "engine"), [((), "auto"), (("--engine", "eager"), "eager")])
def test_passes_are_run_by_the_engine_that_was_asked_for(
    hub: Path, monkeypatch: pytest.MonkeyPatch, run: Any, options: tuple[str, ...], engine: str
) -> None:
    server = pytest.importorskip("snow.serving.server")
    served: list[Any] = []
    monkeypatch.setattr(server, "serve", lambda service, *_: served.append(service))
    assert run("serve", hub, *options).code == 0
    assert served[0]._worker.hub.engine.name == engine
