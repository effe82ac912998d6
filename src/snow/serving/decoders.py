"""Decoding in processes: which picture is decoded next, for how long, and what happens if its process is lost.

There are two lanes. Every picture starts in the quick one. If it is large by its header, or takes longer than
`QUICK_SECONDS`, it moves to the slow lane, where it has a process of its own and a lower priority. So a picture that is
expensive delays only others that are expensive. In both lanes the order is fair to clients, by pixels.

A picture that is no longer wanted is not decoded. The slow lane kills its process; the quick one ends soon.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import signal
import socket
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from snow.process.forkserver import ForkServer
from snow.serving.decoding import DECODED, LARGE, REPLY, REQUEST, SIZE, Decoding, serve_pictures, to_image
from snow.serving.errors import CODES, RefusedError
from snow.serving.fairness import FairQueue, Owner
from snow.serving.limits import Limits
from snow.source.preprocessing import Preprocessing

log = logging.getLogger("snow.serving")

QUICK_COST = 16_000_000
"""Pixels of a picture that is not decoded in the quick lane."""
QUICK_SECONDS = 0.3
"""Processor seconds that a picture may take in the quick lane."""

SLOW_NICENESS = 5
BUFFER_BYTES = 2**20


@cache
def fork_server() -> ForkServer:
    """Return the server that starts all decoding processes of this process."""
    return ForkServer(f"{serve_pictures.__module__}:{serve_pictures.__name__}")


@dataclass(eq=False)
class _Job:
    """A picture that waits, or is decoded; `result` is cancelled when nobody wants it any more."""

    content: bytes | bytearray | memoryview
    number: int
    owner: Owner
    result: asyncio.Future[Tensor]


class _LostError(Exception):
    """A process died."""


class _Process:
    """A process that decodes."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self._pid: int | None = pid
        self._connection = connection
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)

    @classmethod
    async def start(cls, decoding: Decoding) -> _Process:
        process = cls(*await asyncio.to_thread(fork_server().fork))
        setup = pickle.dumps(decoding)
        await asyncio.get_running_loop().sock_sendall(process._connection, SIZE.pack(len(setup)) + setup)
        return process

    async def ask(self, job: _Job) -> tuple[bytes, int, bytearray]:
        """Send a picture. Returns the reply: its kind, its number, and what follows. Raises _LostError."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._connection, REQUEST.pack(job.number, len(job.content)))
            await loop.sock_sendall(self._connection, job.content)
            kind, length = REPLY.unpack(await self._receive(REPLY.size))
            return kind, length, await self._receive(0 if kind == LARGE else length)
        except OSError:
            raise _LostError from None

    async def _receive(self, count: int) -> bytearray:
        content, done = bytearray(count), 0
        while done < count:
            received = await asyncio.get_running_loop().sock_recv_into(self._connection, memoryview(content)[done:])
            if not received:
                raise ConnectionError("the process died")
            done += received
        return content

    async def ended_by(self) -> int:
        """End the process. Returns the signal that ended it."""
        self._connection.close()
        pid, self._pid = self._pid, None
        return 0 if pid is None else await asyncio.to_thread(fork_server().end, pid)

    async def end(self) -> None:
        """End the process."""
        await self.ended_by()


class _Lane:
    """Processes that decode from one queue.

    Args:
        keep: whether a process decodes many pictures, or one.
    """

    def __init__(self, decoding: Decoding, processes: int, keep: bool) -> None:
        self.decoding, self._count, self._keep = decoding, processes, keep
        self.queue: FairQueue[_Job] = FairQueue()
        self.overflow: _Lane | None = None
        self._pushed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        processes = [await _Process.start(self.decoding) if self._keep else None for _ in range(self._count)]
        self._tasks = [asyncio.create_task(self._run(process)) for process in processes]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def push(self, job: _Job, cost: float) -> None:
        self.queue.push(job, job.owner, cost)
        async with self._pushed:
            self._pushed.notify()

    async def _run(self, process: _Process | None) -> None:
        """Decode one picture after the other."""
        try:
            while True:
                async with self._pushed:
                    await self._pushed.wait_for(lambda: len(self.queue))
                    job = self.queue.pop()
                if job.result.done():
                    continue
                try:
                    process = process or await _Process.start(self.decoding)
                    alive = await self._decode(process, job)
                except Exception as error:
                    log.error("picture not decoded", exc_info=error)
                    _refuse(job, RefusedError("internal", CODES["internal"][1]))
                    alive = False
                if process is not None and not (alive and self._keep):
                    process = await process.end()
        finally:
            if process is not None:
                await asyncio.shield(process.end())

    async def _decode(self, process: _Process, job: _Job) -> bool:
        """Decode a picture, unless nobody wants it any more. Returns whether the process can go on."""
        asking = asyncio.ensure_future(process.ask(job))
        try:
            if self._keep:  # it ends soon by itself, and a new process would take as long
                await asyncio.wait((asking,))
            else:
                await asyncio.wait((asking, job.result), return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_answered = asking.done()
            asking.cancel()
            await asyncio.wait((asking,))
        if not is_answered:
            return False
        try:
            kind, number, content = asking.result()
        except _LostError:
            await self._lose(job, await process.ended_by())
            return False
        if job.result.done():
            return True
        if kind == LARGE and self.overflow is not None:
            await self.overflow.push(job, number)
        elif kind == DECODED:
            job.result.set_result(to_image(content, self.decoding.preprocessing.image_size))
        else:
            code, message = json.loads(content)
            _refuse(job, RefusedError(code, message, job.number))
        return True

    async def _lose(self, job: _Job, number: int) -> None:
        """Move a picture whose process died to the slow lane, or refuse it if it had that process to itself."""
        if self.overflow is not None:
            await self.overflow.push(job, self.decoding.max_pixels)
        elif number in (signal.SIGPROF, signal.SIGKILL):
            what = "time" if number == signal.SIGPROF else "memory"
            message = f"picture {job.number}: decoding takes more {what} than the service allows"
            _refuse(job, RefusedError("too_complex", message, job.number))
        else:
            _refuse(job, RefusedError("broken_picture", f"picture {job.number}: the decoder crashed", job.number))


class Decoders:
    """Decodes pictures in processes, on one event loop.

    Args:
        preprocessing: of the source.
        limits: pixels and processor time of a picture, and the number of processes.
    """

    def __init__(self, preprocessing: Preprocessing, limits: Limits) -> None:
        def decoding(large: int | None, longest: float, niceness: int) -> Decoding:
            return Decoding(preprocessing, limits.max_pixels, large, limits.decode_time, longest, niceness)

        slow = decoding(None, limits.decode_time, SLOW_NICENESS)
        self._slow = _Lane(slow, max(1, limits.decoders // 2), False)
        self._quick = _Lane(decoding(QUICK_COST, QUICK_SECONDS, 0), limits.decoders, True)
        self._quick.overflow = self._slow

    async def start(self) -> None:
        """Start the processes. Raises ForkServerError: they cannot be started."""
        await self._slow.start()
        await self._quick.start()

    async def stop(self) -> None:
        """Kill the processes."""
        await self._quick.stop()
        await self._slow.stop()

    async def decode(self, content: bytes | bytearray | memoryview, number: int, owner: Owner) -> Tensor:
        """Decode, resize and crop a picture: a file's bytes -> (3, S, S) uint8. If cancelled, it is not decoded.

        Args:
            number: index of the picture in its request, from 0.

        Raises:
            RefusedError: it cannot be decoded, is too large, or takes too much time or memory.
        """
        job = _Job(content, number, owner, asyncio.get_running_loop().create_future())
        await self._quick.push(job, 1.0)
        return await job.result


def _refuse(job: _Job, refusal: RefusedError) -> None:
    if not job.result.done():
        job.result.set_exception(refusal)
