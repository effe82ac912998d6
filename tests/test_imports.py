"""The house: imports point one way, every noun has its file, and the heavy things are imported late."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import snow

ROOT = Path(snow.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

BASE = {"errors", "preprocessing"}
SOURCE = BASE | {"weights", "architectures", "taps", "network", "source"}
LEARNING = SOURCE | {"subscribe", "delta", "methods"}

ALLOWED = {
    "errors": set(),
    "store": {"errors"},
    "preprocessing": {"errors"},
    "weights": {"errors"},
    "architectures": BASE | {"weights"},
    "taps": {"errors"},
    "network": {"errors"},
    "source": BASE | {"architectures", "taps", "network"},
    "subscribe": SOURCE,
    "delta": SOURCE | {"subscribe"},
    "methods": SOURCE | {"subscribe", "delta"},
    "data": BASE,
    "training": LEARNING | {"data", "engine"},
    "card": set(),
    "sharing": {"errors", "store"},
    "artifact": LEARNING | {"card", "sharing", "store"},
    "source_file": SOURCE | {"artifact", "store"},
    "fingerprint": LEARNING | {"artifact"},
    "engine": LEARNING,
    "answer": {"errors"},
    "hub": LEARNING
    | {"answer", "artifact", "card", "data", "engine", "fingerprint", "sharing", "source_file", "store"},
}
"""What a room may import; rooms that are not named here stand above all of these."""


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of each import of our own, wherever it stands in the file."""
    package = ["snow", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "snow" else [module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "snow":
                yield node.lineno, parts[1] if len(parts) > 1 else "__init__"


def test_there_is_something_to_check() -> None:
    assert {room_of(path) for path in MODULES} >= ALLOWED.keys()
    assert sum(1 for path in MODULES for _ in imported(path)) > 50


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_point_one_way(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in MODULES
        if room_of(path) == room
        for line, name in imported(path)
        if name not in ALLOWED[room] | {room}
    ]
    assert wrong == []


def test_nothing_imports_the_command_line_or_the_package_itself() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in MODULES
        for line, name in imported(path)
        if name in {"cli", "__init__"} and room_of(path) not in {"cli", "__main__"}
    ]
    assert wrong == []


def test_rooms_above_are_never_imported_from_below() -> None:
    above = {room_of(path) for path in MODULES} - ALLOWED.keys()
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in MODULES
        if room_of(path) in ALLOWED
        for line, name in imported(path)
        if name in above
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["subscribe", "delta", "methods"])
def test_siblings_never_import_in_a_circle(package: str) -> None:
    """Inside a room, too, what is imported while loading has an order."""
    edges: dict[str, set[str]] = {}
    for path in (ROOT / package).glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        froms = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
        inside = {name.split(".")[2] for name in froms if name.startswith(f"snow.{package}.")}
        edges[path.stem] = inside & {other.stem for other in (ROOT / package).glob("*.py")}
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
    assert len(text.splitlines()) <= 400
