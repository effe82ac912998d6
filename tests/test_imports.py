"""The house: imports point one way, every noun has its file, and the heavy things are imported late."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import snow

ROOT = Path(snow.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

ORDER = (
    "errors",  # what a user can mend
    "process",  # memory, threads, randomness, signals
    "store",  # files and folders that change in one step
    "source",  # the frozen network and its taps
    "subscribe",  # which channels of a map a delta takes
    "delta",  # the small network of one task
    "methods",  # the ways to learn a task
    "kinds",  # classes, tags, numbers, grades
    "data",  # labelled pictures
    "inference",  # one pass for many readers
    "hub",  # a folder with a source and its tasks
    "training",  # from pictures to a task in a hub
    "serving",  # a hub over HTTP
    "distributed",  # all that on a Ray cluster
    "experiments",  # measurements, and the paper's tables
    "cli",
)
"""The rooms from the ground up. Each imports those before it and no other, under `TYPE_CHECKING` too."""

INDEPENDENT = {"serving": {"training"}}
"""What a room leaves alone although it stands below."""


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of each import of our own, wherever it stands in the file."""
    known = {module_of(one) for one in MODULES}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} is a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if name.split(".")[0] == "snow":
                    yield node.lineno, name if name in known else str(node.module)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "snow")


def test_there_is_something_to_check() -> None:
    assert {room_of(path) for path in MODULES} == {"__init__", "__main__", *ORDER}
    assert sum(1 for path in MODULES for _ in imported(path)) > 500


@pytest.mark.parametrize("room", ORDER)
def test_imports_point_down(room: str) -> None:
    allowed = set(ORDER[: ORDER.index(room) + 1]) - INDEPENDENT.get(room, set())
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in MODULES
        if room_of(path) == room
        for line, name in imported(path)
        if name != "snow" and name.split(".")[1] not in allowed
    ]
    assert wrong == []


def test_only_the_command_line_imports_experiments() -> None:
    importing = {room_of(path) for path in MODULES for _, name in imported(path) if name.startswith("snow.experiments")}
    assert importing == {"experiments", "cli"}


@pytest.mark.parametrize("room", ORDER)
def test_modules_of_a_room_never_import_in_a_circle(room: str) -> None:
    """A room's `__init__` stands above its modules, which never import it."""
    paths = {module_of(path): path for path in MODULES if room_of(path) == room}
    edges = {name: {to for _, to in imported(path) if to in paths} for name, path in paths.items()}
    done: set[str] = set()
    while ready := {name for name, needs in edges.items() if name not in done and needs <= done}:
        done |= ready
    assert set(edges) - done == set()


def test_public_nouns_are_where_they_are_said_to_be() -> None:
    assert snow.__all__ == sorted(snow.__all__, key=lambda name: (not name.isupper(), name))
    for name in snow.__all__:
        assert getattr(snow, name) is not None
    with pytest.raises(AttributeError, match="snow.*nothing_like_it"):
        _ = snow.nothing_like_it


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_a_docstring_and_a_readable_length(path: Path) -> None:
    text = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 350
