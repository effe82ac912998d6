"""Processes that start in milliseconds: forked from one that has done their imports.

A process with threads cannot be forked safely, and a new interpreter takes seconds to import torch. So an interpreter
without threads imports a function once, and forks a child for each call of `ForkServer.fork`. The child runs the
function on one end of a pair of sockets. The program of the caller is never imported, unlike with `multiprocessing`.

The server and its children hold no other socket, and end when the process that started them is gone.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress

_COMMAND = struct.Struct("<cq")
"""A letter and a number: fork (with the child's socket), or end the child with this number."""
_REPLY = struct.Struct("<q")
_FORK, _END = b"F", b"E"


class ForkServerError(Exception):
    """The server cannot be started."""


class ForkServer:
    """Starts children that run one function. All methods may be called from any thread, and block for milliseconds.

    Args:
        function: `module:name` of a function of one socket.
    """

    def __init__(self, function: str) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def start(self) -> None:
        """Start the server if it does not run, and do not wait for its imports."""
        with self._lock:
            self._ensure_started()

    def fork(self) -> tuple[int, socket.socket]:
        """Start a child. Returns its process number, and the socket on which it is spoken to.

        Raises:
            ForkServerError: the server cannot start, or died twice.
        """
        own, other = socket.socketpair()
        with other:
            for _ in range(2):
                with self._lock, suppress(OSError):
                    self._ensure_started()
                    socket.send_fds(self._control, [_COMMAND.pack(_FORK, 0)], [other.fileno()])
                    return self._reply(), own
                self.close()
        own.close()
        raise ForkServerError(f"no process can be started for {self._function}")

    def end(self, pid: int) -> int:
        """End a child that `fork` started. Returns the signal that ended it: SIGKILL, or what had ended it before."""
        with self._lock, suppress(OSError):
            if self._process is not None:
                self._control.sendall(_COMMAND.pack(_END, pid))
                return self._reply()
        return 0

    def close(self) -> None:
        """End the server; the next `fork` starts another. Children end when their sockets are closed."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                self._control.close()
                process.kill()
                process.wait()

    def _ensure_started(self) -> None:
        if self._process is not None:
            return
        own, other = socket.socketpair()
        with other:
            command = f"from {__name__} import _main; _main({other.fileno()}, {self._function!r})"
            environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                env=environment,
                start_new_session=True,  # Ctrl-C is for the process that started it
            )
        self._control = own

    def _reply(self) -> int:
        content = self._control.recv(_REPLY.size, socket.MSG_WAITALL)
        if len(content) < _REPLY.size:
            raise ConnectionError("the server died")
        return _REPLY.unpack(content)[0]


def _main(control_number: int, function_name: str) -> None:
    """Run the server until its control socket is closed."""
    module, _, name = function_name.partition(":")
    function = getattr(importlib.import_module(module), name)
    gc.collect()
    gc.freeze()  # or the first collection of a child copies every page that holds an object
    control = socket.socket(fileno=control_number)
    while True:
        content, sockets, _, _ = socket.recv_fds(control, _COMMAND.size, 1)
        if len(content) < _COMMAND.size:
            return
        command, number = _COMMAND.unpack(content)
        if command == _END:
            control.sendall(_REPLY.pack(_end(number)))
            continue
        pid = os.fork()
        if not pid:
            control.close()
            _run(function, sockets[0])
        os.close(sockets[0])
        control.sendall(_REPLY.pack(pid))


def _run(function: object, number: int) -> None:
    """Run the function of a child, and end it. What libraries print about hostile data goes nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        function(socket.socket(fileno=number))  # ty: ignore[not-callable]
    finally:
        os._exit(0)


def _end(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)  # it is a child until it is waited for, so the number is still its own
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
