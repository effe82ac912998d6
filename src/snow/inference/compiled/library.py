"""Compile `delta.c` for this processor, once per machine, and load it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from snow.errors import SnowError
from snow.store.cache_folder import cache_folder

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")
SOURCES = ("delta.c", "tile.h")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 120
"""After so long a compiler is given up."""


def find_compiler() -> str | None:
    """Find a C compiler: that of `CC`, or the first of `COMPILERS`; None if there is none, and on Windows."""
    if os.name == "nt":
        return None
    names = [os.environ["CC"]] if os.environ.get("CC") else COMPILERS
    return next((path for name in names if (path := shutil.which(name))), None)


@functools.cache
def load_library() -> ctypes.CDLL:
    """Load the compiled code. The first call on a machine compiles it, which takes a second or two.

    Raises:
        SnowError: there is no compiler, it fails, or what it made cannot be loaded.
    """
    compiler = find_compiler()
    if compiler is None:
        raise SnowError("engine compiled needs a C compiler: install gcc or clang, or choose another engine")
    sources = {name: files("snow.inference.compiled").joinpath(name).read_text("utf-8") for name in SOURCES}
    path = cache_folder() / f"delta-{_digest(compiler, sources)}.so"
    try:
        if not path.is_file() or path.stat().st_uid != os.geteuid():  # code that another user wrote is not loaded
            _compile(compiler, sources, path)
        library = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines() or [type(error).__name__]
        raise SnowError(f"{compiler} cannot make the compiled engine ({reason[0]}): choose another engine") from error
    pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    library.snow_run.argtypes = [
        pointer, number, pointer, pointer, pointer, number, number, pointer, size, pointer, size, number, pointer, size,
    ]  # fmt: skip
    library.snow_moments.argtypes = [pointer, number, number, pointer]
    library.snow_run.restype = library.snow_moments.restype = None
    return library


def _compile(compiler: str, sources: Mapping[str, str], path: Path) -> None:
    """Compile to a file that appears in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".delta-") as folder:
        draft = Path(folder) / path.name
        for name, content in sources.items():
            (Path(folder) / name).write_text(content, "utf-8")
        command = [compiler, *FLAGS, "-o", draft.name, SOURCES[0]]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=SECONDS)
        draft.replace(path)


def _digest(compiler: str, sources: Mapping[str, str]) -> str:
    """Hash all that the compiled code depends on: source, compiler, options and processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False, timeout=SECONDS)
    parts = (*sources.values(), compiler, version.stdout, " ".join(FLAGS), processor())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@functools.cache
def processor() -> str:
    """Describe the processor: its model and the instructions that it has."""
    described = {platform.machine(), platform.processor()}
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        described |= {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return "\n".join(sorted(described))
