"""Connections: deadlines and limits that uvicorn's HTTP protocols do not have, for whichever parser is installed.

- Headers must be complete `header_time` seconds after the connection, or the first byte of a request, at the latest.
- Everything that is not body is bounded: lines, headers, trailers, chunk extensions, small chunks. The parsers leave
  that to their user.
- When all connections are in use, the one that has been without a request longest is closed.
- A client that has sent its request and closed its side is answered, if it is still there.
- When the service stops, a request that has arrived and was not read yet is answered like those that were.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from snow.serving.fairness import client_at
from snow.serving.limits import Limits

MAX_HEAD_BYTES = 2**16
"""Bytes of a request beside its body."""
MAX_HEADERS = 200
CHUNK_BYTES, SMALL_CHUNK = 8, 256
"""Bytes of the header and the end of a chunk that do not count, if it has so many bytes itself. Each chunk takes longer
than its bytes: a body of chunks of one byte would hold the event loop."""
MAX_SMALL_CHUNKS = 1000
"""Chunks with fewer bytes in one body for the parser h11, and at once for httptools."""
SMALL_CHUNKS_AT_ONCE = 8
"""Such chunks that h11 reads in one round of the event loop."""
MAX_PIPELINED = 16
"""Requests that may be sent before the first of them is answered. httptools parses all that it is given at once."""

WRITE_SECONDS = 30
"""Time in which a client has to read what it asked for."""

LAST_SECONDS = 0.3
"""Time in which a connection without a request may still give one when the service stops."""

PROBE_SECONDS = 0.1
PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""An interim response, which every client skips (RFC 9110, section 15.2). One that is gone answers with a reset."""

SPARE_FILES = 100
"""Open files that a service needs beside its connections."""

BACKLOG = 2048
"""Connections that may be accepted at once, before any can be closed."""


def raise_file_limit(connections: int) -> int:
    """Let the process have as many open files as the system allows. Returns the connections that fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES + BACKLOG
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - SPARE_FILES))


def protocol_class(limits: Limits, base: Any = AutoHTTPProtocol) -> type[asyncio.Protocol]:
    """Create the class of uvicorn's protocol with the limits of a service.

    Args:
        base: uvicorn's class for one of its parsers.
    """
    max_connections = raise_file_limit(limits.max_connections)
    has_callbacks = hasattr(base, "on_body")  # h11 bounds everything beside the body itself, and its chunks

    class GuardedProtocol(base):
        """An HTTP connection with deadlines and limits."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.owner = client_at(self.client[0]) if self.client else ""
            self.head_bytes = 0
            self.has_more = False
            self.idle_since: float | None = time.monotonic()
            self._header_timer: asyncio.TimerHandle | None = None
            self._write_timer: asyncio.TimerHandle | None = None
            if not has_callbacks:
                self.conn = _FewChunks(self.conn)
            self._await_headers()
            if len(self.connections) > max_connections:
                _close_one_idle(self.connections)

        def shutdown(self) -> None:
            """Stop after the request that is being answered, or that comes in `LAST_SECONDS`."""
            if self._is_in_request():
                super().shutdown()
            else:
                self.loop.call_later(LAST_SECONDS, self._close)

        def _close(self) -> None:
            if not self.transport.is_closing():
                super().shutdown()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timers()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            self.head_bytes += len(data)
            self.small_chunks = 0
            super().data_received(data)
            if self.transport.is_closing():
                return
            if self._is_in_request():
                self.idle_since = None
                if self._header_timer is not None:
                    self._header_timer.cancel()
                    self._header_timer = None
            else:
                self._await_headers()
            self.head_bytes = max(0, self.head_bytes) if has_callbacks else 0
            if self.head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()

        def _is_in_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def on_response_complete(self) -> None:
            self.idle_since, self.head_bytes = time.monotonic(), 0
            super().on_response_complete()

        def _await_headers(self) -> None:
            if self._header_timer is None:
                self._header_timer = self.loop.call_later(limits.header_time, self.transport.abort)

        def _stop_timers(self) -> None:
            for timer in (self._header_timer, self._write_timer):
                if timer is not None:
                    timer.cancel()

        def handle_events(self) -> None:  # by h11
            self.conn.left = SMALL_CHUNKS_AT_ONCE
            super().handle_events()
            if not self.conn.left and not self.has_more and not self.transport.is_closing():
                self.has_more = True
                self.flow.pause_reading()
                self.loop.call_soon(self._handle_more)

        def _handle_more(self) -> None:
            self.has_more = False
            if not self.transport.is_closing():
                self.flow.resume_reading()
                self.handle_events()

        def on_header(self, name: bytes, value: bytes) -> None:  # by httptools, trailers too
            super().on_header(name, value)
            if len(self.headers) > MAX_HEADERS:
                raise ValueError("too many headers")

        def on_message_begin(self) -> None:  # by httptools
            if len(self.pipeline) >= MAX_PIPELINED:
                self.transport.abort()
                raise ValueError("too many requests at once")
            super().on_message_begin()

        def on_body(self, body: bytes) -> None:  # by httptools
            self.head_bytes -= len(body) + (CHUNK_BYTES if len(body) >= SMALL_CHUNK else 0)
            self.small_chunks += len(body) < SMALL_CHUNK
            if self.small_chunks > MAX_SMALL_CHUNKS:
                raise ValueError("too many small chunks")
            super().on_body(body)

        def send_400_response(self, msg: str) -> None:
            if not self.transport.is_closing():
                super().send_400_response(msg)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

        def eof_received(self) -> bool:
            """Keep the connection of a client that waits for its answer, and find out whether it is there."""
            if not self._is_in_request() or self.cycle.more_body or self.cycle.response_started:
                return False
            self.cycle.keep_alive = False
            self._probe()
            self.loop.call_later(PROBE_SECONDS, self._probe)
            return True

        def _probe(self) -> None:
            if self._is_in_request() and not self.cycle.response_started and not self.transport.is_closing():
                self.transport.write(PROBE)

    return GuardedProtocol


class _FewChunks:
    """An `h11.Connection` that reads few small chunks at once, and refuses a body of many: each takes it 30 us."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._small = 0
        self.left = SMALL_CHUNKS_AT_ONCE
        """Small chunks that are read before this is set again; then there seem to be no more events."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def next_event(self) -> Any:
        if not self.left:
            return h11.NEED_DATA
        event = self._connection.next_event()
        if isinstance(event, h11.Request):
            self._small = 0
        elif isinstance(event, h11.Data) and event.chunk_start and len(event.data) < SMALL_CHUNK:
            self._small += 1
            self.left -= 1
            if self._small > MAX_SMALL_CHUNKS:
                raise h11.RemoteProtocolError("too many small chunks")
        return event


def _close_one_idle(connections: set[Any]) -> None:
    """Close the connection that has been without a request longest, of the client that has most of them."""
    idle = [connection for connection in connections if getattr(connection, "idle_since", None) is not None]
    counts = Counter(connection.owner for connection in idle)
    victim = min(idle, key=lambda connection: (-counts[connection.owner], connection.idle_since), default=None)
    if victim is not None:
        victim.transport.abort()


class OncePerSecond(logging.Filter):
    """Drops a log message that was written within the last second: clients choose how often some are."""

    def __init__(self) -> None:
        super().__init__()
        self._written: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        key = str(record.msg)
        if record.levelno >= logging.ERROR or now - self._written.get(key, -1.0) >= 1:
            self._written[key] = now
            return True
        return False
