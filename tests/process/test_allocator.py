"""Freed memory stays, here and in processes that are started later."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
def faults():
    for _ in range(3):
        bytearray(40_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(40_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""
PAGES = 10 * 40_000_000 // 4096
"""Page faults if every page is cleared again."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")


def output_lines(program: str, **environment: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS + program]
    return subprocess.run(
        command, env=clean | environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_what_is_freed_is_not_paged_in_again() -> None:
    before, kept, after, child = output_lines(
        "import subprocess, sys\n"
        "from snow.process.startup import keep_freed_memory\n"
        "print(faults(), keep_freed_memory(), faults(), sep='\\n', flush=True)\n"
        f"subprocess.run([sys.executable, '-c', {FAULTS!r} + 'print(faults())'], check=True)\n"
    )
    assert kept == "True"
    assert int(before) > PAGES // 2
    assert int(after) < PAGES // 20
    assert int(child) < PAGES // 20


def test_what_is_free_can_be_given_back() -> None:
    held, left = output_lines(
        "from snow.process.startup import keep_freed_memory, release_freed_memory\n"
        "from snow.process.memory import process_memory\n"
        "keep_freed_memory(); faults(); print(process_memory('VmRSS'))\n"
        "release_freed_memory(); print(process_memory('VmRSS'))"
    )
    assert int(held) - int(left) > 30_000_000


def test_threads_share_arenas_unless_the_environment_says_how_many() -> None:
    program = (
        "import ctypes, threading\n"
        "from snow.process.startup import share_arenas\n"
        "share_arenas()\n"
        "allocated = threading.Barrier(9)\n"
        "threads = [threading.Thread(target=lambda: (bytearray(10_000), allocated.wait())) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "allocated.wait()\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, 'stdout'))\n"
        "libc.fflush(None)\n"
    )
    assert sum("<heap nr=" in line for line in output_lines(program)) <= 2
    assert sum("<heap nr=" in line for line in output_lines(program, MALLOC_ARENA_MAX="9")) > 2


def test_the_environment_s_word_stands() -> None:
    program = "from snow.process.startup import keep_freed_memory\nprint(keep_freed_memory())"
    assert output_lines(program, MALLOC_ARENA_MAX="2") == ["False"]


def test_the_command_line_keeps_it() -> None:
    program = (
        "import sys; sys.argv = ['snow', '--version']\n"
        "from snow.cli import main\nmain()\nimport os; print(os.environ['MALLOC_MMAP_MAX_'])"
    )
    assert output_lines(program)[-1] == "0"
