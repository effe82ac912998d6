"""Where `snow watch` sends its lines beside the terminal: a webhook, or a topic of an MQTT broker."""

from __future__ import annotations

import importlib
import time
import urllib.request
from abc import ABC, abstractmethod
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit

from snow.errors import SnowError

SECONDS = 5.0
"""Longest wait for a line to be taken."""

MOST_WAITING = 100
"""Lines that wait for a broker which does not confirm them, at most."""


class Sink(ABC):
    """Takes lines one by one.

    Attributes:
        name: in the line at the end of a watch.
        refused: lines that were not taken; these are not sent again.
    """

    name: str

    def __init__(self) -> None:
        self.refused = 0

    def send(self, line: str) -> None:
        """Send a line, and count it if it is not taken."""
        if not self._takes(line):
            self.refused += 1

    @abstractmethod
    def _takes(self, line: str) -> bool:
        """Send a line. Returns whether it was taken within `SECONDS`."""

    @abstractmethod
    def close(self) -> None:
        """Give up what stays open between two lines."""


class Webhook(Sink):
    """Posts lines to an HTTP address.

    Raises:
        SnowError: it is no such address.
    """

    name = "the webhook"

    def __init__(self, address: str) -> None:
        super().__init__()
        if not address.startswith(("http://", "https://")) or not _has_host(address):
            raise SnowError(f"--webhook takes an address such as http://localhost:9000/, not {address}")
        self._address = address

    def _takes(self, line: str) -> bool:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(
            self._address, line.encode("utf-8", "backslashreplace"), headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS):
                return True
        except (OSError, HTTPException):
            return False

    def close(self) -> None:
        """Nothing stays open."""


class Mqtt(Sink):
    """Publishes lines under a topic, each confirmed by the broker (QoS 1). A broker that goes away is asked again.

    Args:
        address: `mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC`, or `mqtts://…` for TLS.

    Raises:
        SnowError: it is no such address, nobody answers there, or paho-mqtt is not installed.
    """

    name = "the MQTT broker"

    def __init__(self, address: str) -> None:
        super().__init__()
        parts = urlsplit(address if _has_host(address) else "")
        self._topic = unquote(parts.path[1:])
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not self._topic or set(self._topic) & {*"+#"}:
            raise SnowError(f"--mqtt takes an address such as mqtt://localhost/plant/line-1, not {address}")
        self._client = _client(parts.scheme == "mqtts")
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        self._client.max_queued_messages_set(MOST_WAITING)
        self._client.reconnect_delay_set(1, 30)
        try:
            self._client.connect(parts.hostname, _port(parts.port, parts.scheme))
        except OSError as error:
            raise SnowError(f"{parts.hostname}: there is no MQTT broker ({error})") from None
        self._client.loop_start()
        started = time.monotonic()
        while not self._client.is_connected():
            if time.monotonic() - started > SECONDS:
                self.close()
                raise SnowError(f"{parts.hostname}: the MQTT broker does not let us in: check user and password")
            time.sleep(0.01)

    def _takes(self, line: str) -> bool:
        if not self._client.is_connected():
            return False
        message = self._client.publish(self._topic, line.encode("utf-8", "backslashreplace"), qos=1)
        try:
            message.wait_for_publish(SECONDS)
        except (RuntimeError, ValueError):  # not connected, or too many wait
            return False
        return bool(message.is_published())

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _has_host(address: str) -> bool:
    """Tell whether an address has a host, and a port that is a number if it has one."""
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0 and address.isprintable() and " " not in address
    except ValueError:
        return False


def _port(port: int | None, scheme: str) -> int:
    return port or (8883 if scheme == "mqtts" else 1883)


def _client(secure: bool) -> Any:
    try:
        paho = importlib.import_module("paho.mqtt.client")
    except ImportError:
        raise SnowError("MQTT needs paho-mqtt: pip install 'snow-cnn[mqtt]'") from None
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    if secure:
        client.tls_set()
    return client
