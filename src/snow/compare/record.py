"""A results file that grows while the work goes on: what was done is not done again."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snow.artifact import read_json, write_json
from snow.compare.provenance import provenance
from snow.errors import SnowError
from snow.store import only_writer, whole_file


def begin(out: Path | None, settings: Mapping[str, Any], empty: Mapping[str, Any]) -> dict[str, Any]:
    """The results that `out` holds, or new ones: where they come from, the settings, and `empty` for what is to come.

    Raises:
        SnowError: `out` cannot be read, or holds results of another kind or with other settings.
    """
    if out is None or not out.exists():
        return {**provenance(), **settings, **empty}
    results = read_json(out)
    differing = [key for key, value in settings.items() if results.get(key) != value]
    differing += [key for key in empty if key not in results]
    if differing:
        raise SnowError(f"{out} holds other results: {', '.join(differing)} differ; choose another file")
    return results


def keep(out: Path | None, results: Mapping[str, Any]) -> None:
    """Writes the results in the place of those before, whole or not at all.

    Raises:
        SnowError: `out` cannot be written.
    """
    if out is None:
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as new:
            write_json(new, results)
    except OSError as error:
        raise SnowError(f"{out} cannot be written: {error.strerror or error}") from error


@contextmanager
def alone(out: Path | None, *, folder: bool = False) -> Generator[None]:
    """As long as the block lasts no other process works on these results, if it asks as well.

    Args:
        folder: `out` is one, not a file.

    Raises:
        SnowError: another one does, or `out` cannot be written.
    """
    if out is None:
        yield
        return
    with only_writer(out, out / ".lock" if folder else out.with_name(f".{out.name}.lock")):
        yield
