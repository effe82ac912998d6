"""`snow watch`: a line for each frame, here, to a webhook and to a broker, and one when frames differ from training."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from snow.inference import drift_watch

Run = Callable[..., Any]


def test_watch_prints_a_line_for_each_picture(run: Run, learned: Path, colours: Path) -> None:
    result = run("watch", learned, colours / "test" / "red", "--once", "--differ", "0", "--smooth", "2")
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert len(lines) == 4
    assert lines[0]["tasks"]["colours"]["kind"] == "class"
    assert list(lines[-1]["smoothed"]["colours"])[0] == "red"
    assert result.err.startswith("4 frames, 0 dropped, 0 unreadable")
    assert len(run("watch", learned, colours / "test" / "red", "--once", "--differ", "250").out.splitlines()) == 1
    assert run("watch", learned, colours, "--once", "--webhook", "ftp://x").code == 2


class Taker:
    """A webhook: the bodies that it was sent."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        taken = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_watch_sends_lines_to_a_webhook(run: Run, learned: Path, colours: Path) -> None:
    taker = Taker()
    command = ("watch", learned, colours / "test" / "green", "--once", "--differ", "0", "--limit", "2", "--webhook")
    assert run(*command, taker.address).err.endswith("0 lines not taken by the webhook\n")
    taker.close()
    assert [entry["tasks"]["colours"]["kind"] for entry in taker.bodies] == ["class", "class"]
    assert run(*command, taker.address).err.endswith("2 lines not taken by the webhook\n")


def test_watch_says_when_frames_begin_to_differ_from_training_and_when_that_ends(
    run: Run, learned: Path, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 own pictures, 24 dark ones, and 24 own ones, in the order of their names."""
    monkeypatch.setattr(drift_watch, "EVERY", 12)
    monkeypatch.setattr(drift_watch, "WINDOW", 24)
    own = 2 * sorted((colours / "test").rglob("*.png"))
    (folder := tmp_path / "frames").mkdir()
    for number, path in enumerate([*own, *own, *own]):
        pixels = np.asarray(Image.open(path)) // (8 if 24 <= number < 48 else 1)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    taker = Taker()
    result = run("watch", learned, folder, "--once", "--differ", "0", "--webhook", taker.address)
    taker.close()
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert taker.bodies == lines
    places = [place for place, line in enumerate(lines) if "drift" in line]
    assert [lines[place - 1]["image"] for place in places] == [lines[place]["image"] for place in places]
    begun, ended = (lines[place] for place in places)
    assert 24 <= int(Path(begun["image"]).stem) < 48 <= int(Path(ended["image"]).stem)
    assert "tasks" not in begun
    assert begun["drift"]["colours"]["has_changed"]
    assert begun["drift"]["colours"]["appearance"] > 0.2
    assert not ended["drift"]["colours"]["has_changed"]
    assert begun["drift"]["colours"].keys() == run("drift", learned, colours, "--json").json["tasks"]["colours"].keys()
    notes = result.err.splitlines()
    assert notes[0].startswith("task colours: its last 24 pictures differ from those of training")
    assert notes[1] == "task colours: its last 24 pictures are as in training again"
    assert notes[2].startswith("72 frames, ")


class Broker(threading.Thread):
    """As much of an MQTT broker as takes and confirms messages: (topic, payload) of each."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.taken: list[tuple[str, bytes]] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]

    def run(self) -> None:
        connection, _ = self.listening.accept()
        with connection, connection.makefile("rb") as stream:
            while head := stream.read(1):
                length, shift = 0, 0
                while True:  # seven bits a byte
                    [byte] = stream.read(1)
                    length |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                body = stream.read(length)
                if head[0] >> 4 == 1:
                    connection.sendall(b"\x20\x02\x00\x00")
                elif head[0] >> 4 == 3:
                    end = 2 + int.from_bytes(body[:2], "big")
                    self.taken.append((body[2:end].decode(), body[end + 2 :]))
                    connection.sendall(b"\x40\x02" + body[end : end + 2])
        self.listening.close()


def test_what_is_no_address_is_one_line(refused: Callable[..., str], learned: Path, colours: Path) -> None:
    for address in ("http://host:port/", "http:///path", "http://[1", "http://a b/", "ftp://host"):
        assert "--webhook takes an address" in refused("watch", learned, colours, "--webhook", address, "--once")


def test_watch_publishes_lines_on_mqtt(run: Run, refused: Callable[..., str], learned: Path, colours: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    broker = Broker()
    broker.start()
    command = ("watch", learned, colours / "test" / "green", "--once", "--differ", "0", "--limit", "2", "--mqtt")
    result = run(*command, f"mqtt://127.0.0.1:{broker.port}/plant/line-1")
    assert result.err.endswith("0 lines not taken by the MQTT broker\n")
    broker.join(10)
    assert [topic for topic, _ in broker.taken] == ["plant/line-1"] * 2
    assert [json.loads(payload) for _, payload in broker.taken] == [
        json.loads(line) for line in result.out.splitlines()
    ]
    assert "there is no MQTT broker" in refused(*command, f"mqtt://127.0.0.1:{broker.port}/plant/line-1")
    assert "--mqtt takes an address" in refused(*command, "mqtt://127.0.0.1")
    assert "--mqtt takes an address" in refused(*command, "http://127.0.0.1/topic")
