"""Bytes on a socket: clients that are slow, endless or gone, with each HTTP parser of uvicorn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from clock import Clock

uvicorn = pytest.importorskip("uvicorn")

from starlette.requests import Request  # noqa: E402  what it needs may not be installed
from starlette.responses import PlainTextResponse  # noqa: E402

from snow.hub import Hub  # noqa: E402
from snow.serving.app import create_app  # noqa: E402
from snow.serving.connections import (  # noqa: E402
    MAX_HEAD_BYTES,
    MAX_PIPELINED,
    MAX_SMALL_CHUNKS,
    SMALL_CHUNKS_AT_ONCE,
    OncePerSecond,
    protocol_class,
)
from snow.serving.errors import RefusedError  # noqa: E402
from snow.serving.interruption import interruptible  # noqa: E402
from snow.serving.limits import Limits  # noqa: E402
from snow.serving.service import Service  # noqa: E402

Wait = Callable[[Any], None]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
OPENED: list[asyncio.StreamWriter] = []
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


def bases() -> list[Any]:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return [H11Protocol]
    return [H11Protocol, HttpToolsProtocol]


@pytest.fixture(params=bases(), ids=lambda base: base.__name__)
def base(request: pytest.FixtureRequest) -> Any:
    return request.param


class App:
    """Reads the body, and answers once it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()
        self.begun = asyncio.Event()
        self.ended: list[str] = []
        self.connections: set[Any] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        try:
            async with interruptible(20) as interruption:
                body = await request.body()
                self.begun.set()
                async with interruption.watch_client(receive):
                    await self.may.wait()
            await PlainTextResponse(f"answer {len(body)}")(scope, receive, send)
            self.ended.append("answered")
        except RefusedError as refusal:
            self.ended.append(refusal.code)


@asynccontextmanager
async def listening(base: Any, app: Any = None, **limits: Any) -> AsyncGenerator[tuple[Any, int]]:
    app = app or App()
    config = uvicorn.Config(
        app, http=protocol_class(Limits(**limits), base), ws="none", lifespan="off", log_level="error"
    )
    server = uvicorn.Server(config)
    if isinstance(app, App):
        app.connections = server.server_state.connections
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server._serve([bound]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield app, bound.getsockname()[1]
        finally:
            if isinstance(app, App):
                app.may.set()
            for writer in OPENED:
                writer.transport.abort()
            OPENED.clear()
            server.should_exit = True
            await task


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def send(port: int, *parts: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    OPENED.append(writer)
    for part in parts:
        writer.write(part)
        await writer.drain()
    return reader, writer


async def asked(port: int, path: bytes = b"/") -> bytes:
    reader, writer = await send(port, GET.replace(b"/", path, 1) + b"Connection: close\r\n\r\n")
    return (await reader.read()).splitlines()[0]


def test_headers_have_a_deadline_however_they_come(base: Any, wait: Wait) -> None:
    async def dribble(port: int) -> bool:
        reader, writer = await send(port, GET)
        closed = asyncio.create_task(ended(reader))
        while not closed.done():
            writer.write(b"X: y\r\n")
            await asyncio.sleep(0.02)
        return await closed

    async def work() -> None:
        async with listening(base, header_time=0.2) as (_, port):
            silent, _ = await send(port)
            assert all(await asyncio.gather(ended(silent), dribble(port), *(ended((await send(port, GET))[0]),)))
        async with listening(base, header_time=100) as (_, port):
            clock = Clock()
            reader, writer = await send(port, GET + b"\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            await reader.readuntil(b"answer 0")
            writer.write(GET)
            closed = asyncio.create_task(reader.read())
            while not closed.done():  # it is not known when the server has read the line
                clock.turn(10)
                await asyncio.sleep(0.01)
            assert await closed == b""

    wait(work())


def test_what_is_not_body_is_bounded(base: Any, wait: Wait) -> None:
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    endless = [
        (GET, b"X: " + bytes(60_000).replace(b"\0", b"y")),
        (GET, b"X: y\r\n" * 10_000),
        (b"GET /", b"y" * 60_000),
        (chunked + b"1;", b"y" * 60_000),
        (chunked, b"1\r\nx\r\n" * 10_000),
        (chunked + b"0\r\n", b"X: y\r\n" * 10_000),
        (chunked + b"0\r\nX: ", b"y" * 60_000),
        (chunked + b"100000\r\n" + bytes(0x100000) + b"\r\n0\r\nX: ", b"y" * 60_000),
    ]

    async def flood(port: int, start: bytes, more: bytes) -> int:
        reader, writer = await send(port, start)
        count = 0
        try:
            while count < 100 * MAX_HEAD_BYTES:
                writer.write(more)
                await writer.drain()
                count += len(more)
        except ConnectionError:
            return count
        return count

    async def work() -> None:
        async with listening(base) as (_, port):
            for start, more in endless:
                assert await flood(port, start, more) < 100 * MAX_HEAD_BYTES, start[:60]
            assert await asked(port) == b"HTTP/1.1 200 OK"

    wait(work())


def test_few_small_chunks_are_read_in_one_round_of_the_loop(base: Any, wait: Wait) -> None:
    content = POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 30_000

    is_h11, read = not hasattr(base, "on_body"), []

    class Watched(base):
        def watch(self, name: str, *args: bytes) -> None:
            before = len(self.cycle.body) if self.cycle else 0
            getattr(super(), name)(*args)
            read.append(len(self.cycle.body) - before)

        if is_h11:

            def handle_events(self) -> None:
                self.watch("handle_events")
        else:

            def data_received(self, data: bytes) -> None:
                self.watch("data_received", data)

    async def work() -> None:
        async with listening(Watched) as (_, port):
            reader, _ = await send(port, content)
            with suppress(ConnectionError):
                assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            assert await asked(port) == b"HTTP/1.1 200 OK"

    wait(work())
    assert 0 < max(read) <= (SMALL_CHUNKS_AT_ONCE if is_h11 else MAX_SMALL_CHUNKS)


def test_few_requests_wait_behind_one(base: Any, wait: Wait) -> None:
    async def work() -> None:
        async with listening(base) as (app, port):
            app.may.clear()
            reader, _ = await send(port, (GET + b"\r\n") * MAX_PIPELINED)
            await app.begun.wait()
            app.may.set()
            for _ in range(MAX_PIPELINED):
                await reader.readuntil(b"answer 0")
            app.may.clear()
            reader, _ = await send(port, (GET + b"\r\n") * 5000)
            if hasattr(base, "on_body"):
                assert await ended(reader)
            app.may.set()
            assert await asked(port) == b"HTTP/1.1 200 OK"
            assert len(app.ended) < 5000

    wait(work())


def test_bodies_of_any_shape_pass(base: Any, wait: Wait) -> None:
    chunked = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    big = b"30000\r\n" + bytes(0x30000) + b"\r\n"
    cases = [
        (POST + b"Connection: close\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000), 3_000_000),
        (chunked + b"1\r\nx\r\n" * 900 + b"0\r\n\r\n", 900),
        (chunked + big * 20 + b"0\r\nTrailer: x\r\n\r\n", 20 * 0x30000),
    ]

    async def work() -> None:
        async with listening(base) as (_, port):
            for content, length in cases:
                reader, _ = await send(port, content)
                assert (await reader.read()).endswith(b"answer %d" % length)

    wait(work())


def test_idle_connections_give_way_to_new_ones(base: Any, wait: Wait) -> None:
    async def work() -> None:
        async with listening(base, max_connections=8) as (app, port):
            app.may.clear()
            busy = await send(port, GET + b"Connection: close\r\n\r\n")
            await app.begun.wait()
            app.may.set()
            idle = [await send(port, GET) for _ in range(30)]
            assert await asked(port) == b"HTTP/1.1 200 OK"
            assert await ended(idle[0][0])
            assert (await busy[0].readline()) == b"HTTP/1.1 200 OK\r\n"

    wait(work())


def test_a_request_that_was_not_read_when_the_service_stops_is_answered(base: Any, wait: Wait) -> None:
    async def work() -> None:
        async with listening(base) as (app, port):
            answered, silent = [await send(port) for _ in range(2)]
            while len(app.connections) < 2:
                await asyncio.sleep(0.005)
            for connection in list(app.connections):
                connection.shutdown()
            answered[1].write(GET + b"\r\n")
            assert b"answer 0" in await asyncio.wait_for(answered[0].read(), 5)
            assert await asyncio.wait_for(silent[0].read(), 5) == b""

    wait(work())


def test_one_who_hangs_up_is_noticed_and_one_who_has_said_all_is_answered(base: Any, wait: Wait) -> None:
    async def work() -> None:
        async with listening(base) as (app, port):
            for content in (GET + b"\r\n", POST + b"Content-Length: 2\r\n\r\nab"):
                app.may.clear()
                app.begun.clear()
                app.ended.clear()
                reader, writer = await send(port, content)
                await app.begun.wait()
                writer.write_eof()
                await asyncio.sleep(0.25)
                assert app.ended == []
                app.may.set()
                answer = await reader.read()
                assert b"HTTP/1.1 200 OK" in answer
                assert b"answer" in answer

                app.may.clear()
                app.begun.clear()
                app.ended.clear()
                _, writer = await send(port, content)
                await app.begun.wait()
                writer.close()
                while not app.ended:
                    await asyncio.sleep(0.01)
                assert app.ended == ["disconnected"]

    wait(work())


def test_clients_do_not_choose_how_long_the_log_is() -> None:
    import logging

    records = [logging.LogRecord("x", logging.WARNING, "", 0, "Invalid %s", (number,), None) for number in range(100)]
    only = OncePerSecond()
    assert sum(map(only.filter, records)) == 1
    error = logging.LogRecord("x", logging.ERROR, "", 0, "Failed", (), None)
    assert only.filter(error)
    assert only.filter(error)


def test_a_refused_upload_is_told_even_to_those_who_send_without_waiting(base: Any, hub: Hub, wait: Wait) -> None:
    async def work() -> None:
        app = create_app(Service(hub, Limits(max_bytes=1000)))
        async with app.router.lifespan_context(app), listening(base, app, max_bytes=1000) as (_, port):
            head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n"
            reader, _ = await send(port, head, bytes(3_000_000))
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
            await reader.readuntil(b'"too_many_bytes"')
            assert (await asked(port, b"/healthz")).startswith(b"HTTP/1.1 200 ")

    wait(work())
