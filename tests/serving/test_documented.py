"""Every block of the page on serving runs: what starts a service as far as its port, what asks one against one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from snow.cli.app import main
from snow.hub import Artifact, Hub

server = pytest.importorskip("snow.serving.server")

from running import running  # noqa: E402  what it needs may not be installed

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
STARTS = [line for _, text in BLOCKS for line in text.splitlines() if " serve " in f" {line}" and "snow" in line]
ASKS = [text for _, text in BLOCKS if "curl" in text]


@pytest.fixture
def here(hub: Hub, canary: Callable[..., Artifact], jpeg: Callable[..., bytes], tmp_path: Path) -> Path:
    """A folder with everything that the page names."""
    other = Hub.create(tmp_path / "other-hub", hub.source)
    for one in (hub, other):
        one.add(canary("insects", 1, ("ants", "bees", "moths")))
    hub.path.rename(tmp_path / "my-hub")
    for number, name in enumerate(("ant.jpg", "bee.jpg")):
        (tmp_path / name).write_bytes(jpeg(number))
    return tmp_path


@pytest.mark.parametrize("line", STARTS)
def test_what_starts_a_service_is_understood(line: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(server, "serve", lambda *_: started.append("one"))
    replicas = ModuleType("snow.distributed.service")
    replicas.serve_on_ray = lambda *_: started.append("replicas")  # ty: ignore[unresolved-attribute]
    monkeypatch.setitem(sys.modules, "snow.distributed.service", replicas)
    monkeypatch.setattr("snow.serving.service.Service.__init__", lambda *_: None)  # would look for its device
    monkeypatch.chdir(here)
    words = shlex.split(line.replace("/shared/", ""), comments=True)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    assert words.pop(0) == "snow"
    assert main(words) == 0
    assert started == ["replicas" if "ray" in words else "one"]


@pytest.mark.slow
def test_what_asks_and_changes_a_service_does(here: Path) -> None:
    if not all(map(shutil.which, ("bash", "curl", "zip", "base64"))):
        pytest.skip("needs bash, curl, zip and base64")
    (here / ".curlrc").write_text("fail-with-body\nsilent\n")
    environment = {**os.environ, "CURL_HOME": str(here), "SNOW_TOKEN": "secret"}
    said: list[Any] = []
    with running(here / "my-hub") as (_, url):
        for text in ASKS:
            script = text.replace("http://127.0.0.1:8000", url)
            command = ["bash", "-euo", "pipefail", "-c", script]
            done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=90)
            assert done.returncode == 0, (script, done.stdout, done.stderr)
            said += _values(done.stdout)
    form, body, encoded, added = said  # what is removed is not answered
    [(_, example)] = [block for block in BLOCKS if block[0] == "json"]
    documented = json.loads(example)
    assert form.keys() == documented.keys()
    assert form["timing"].keys() == documented["timing"].keys()
    assert [one["image"] for one in form["results"]] == ["bee.jpg", "ant.jpg"]
    for answer in (form, body, encoded):
        insects, shown = answer["results"][0]["tasks"]["insects"], documented["results"][0]["tasks"]["insects"]
        assert (insects.keys(), insects["kind"]) == (shown.keys(), shown["kind"])
        assert insects["classes"][0].keys() == shown["classes"][0].keys()
        assert insects["classes"][0]["class"] == "bees"
    assert sorted(encoded["results"][0]["tasks"]) == ["insects"]
    assert added["name"] == "insects"
    assert sorted(path.name for path in (here / "my-hub" / "tasks").iterdir() if path.is_dir()) == ["learned"]


def _values(text: str) -> list[Any]:
    """JSON values, one behind the other."""
    values, decoder = [], json.JSONDecoder()
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:]
    return values
