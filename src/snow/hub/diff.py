"""Compare two tasks or two hubs by their files, without building a network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from snow.errors import SnowError
from snow.hub.listing import store_of
from snow.hub.task_files import RECORD_FILE, files_of
from snow.source.description import read_source
from snow.store import read_consistently, read_json

Content = Mapping[str, Mapping[str, Any]]
"""File -> key -> value. Keys are JSON paths or names of tensors; "" holds the reason if a file is unreadable."""


@dataclass(frozen=True)
class Change:
    """One value that differs.

    Attributes:
        file: of the task, or `source.json`.
        key: the path of a JSON value, such as `config.options.keep`, or the name of a tensor; "" for the whole file.
        here, there: the JSON value, or the type and shape of the tensor; "" if there is none.
        largest: largest absolute difference of two tensors of the same shape.
    """

    file: str
    key: str
    here: str
    there: str
    largest: float | None = None


@dataclass(frozen=True)
class HubDiff:
    """The difference of two hubs: tasks in one of them only, and the changes in the others."""

    source: tuple[Change, ...]
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    same: tuple[str, ...]
    differ: dict[str, tuple[Change, ...]]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.source or self.only_here or self.only_there or self.differ)


def diff_hubs(here: Path, there: Path) -> HubDiff:
    """Compare two hubs.

    Raises:
        SnowError: one of the folders is not a hub.
    """
    source = {"source.json": _leaves(read_source(here))}, {"source.json": _leaves(read_source(there))}
    names_here, names_there = store_of(here).names(), store_of(there).names()
    both = [name for name in names_here if name in names_there]
    changes = {name: _changes(_of_hub(here, name), _of_hub(there, name)) for name in both}
    return HubDiff(
        _changes(*source),
        tuple(name for name in names_here if name not in both),
        tuple(name for name in names_there if name not in both),
        tuple(name for name in both if not changes[name]),
        {name: task_changes for name, task_changes in changes.items() if task_changes},
    )


def diff_tasks(here: Path, there: Path) -> tuple[Change, ...]:
    """Compare two folders that hold one task each."""
    return _changes(read_consistently(lambda: here, _content), read_consistently(lambda: there, _content))


def _of_hub(hub: Path, name: str) -> Content:
    try:
        return store_of(hub).read(name, _content)
    except SnowError as error:
        return {name: {"": str(error)}}


def _content(folder: Path) -> Content:
    return {file.name: _values(file) for file in files_of(folder) if file.name != RECORD_FILE}


def _values(file: Path) -> Mapping[str, Any]:
    try:
        return load_file(file) if file.suffix == ".safetensors" else _leaves(read_json(file))
    except (SnowError, SafetensorError, OSError) as error:
        return {"": f"cannot be read: {error}"}


def _leaves(values: Mapping[str, Any] | list[Any], path: str = "") -> dict[str, Any]:
    """Flatten JSON to path -> value; lists of plain values count as one value."""
    leaves: dict[str, Any] = {}
    for key, value in values.items() if isinstance(values, Mapping) else enumerate(values):
        key_path = f"{path}.{key}" if path else str(key)
        is_nested = isinstance(value, Mapping) or (
            isinstance(value, list) and any(isinstance(v, Mapping) for v in value)
        )
        leaves |= _leaves(value, key_path) if is_nested else {key_path: value}
    return leaves


def _changes(here: Content, there: Content) -> tuple[Change, ...]:
    return tuple(
        change
        for file in sorted(here.keys() | there.keys())
        for change in _of_file(file, here.get(file), there.get(file))
    )


def _of_file(file: str, here: Mapping[str, Any] | None, there: Mapping[str, Any] | None) -> Iterator[Change]:
    if here is None or there is None:
        yield Change(file, "", "" if here is None else "there", "" if there is None else "there")
        return
    if "" in here or "" in there:
        yield Change(file, "", here.get("", "there"), there.get("", "there"))
        return
    for key in dict.fromkeys([*here, *there]):
        largest = _largest(here.get(key), there.get(key))
        described = [_describe(values[key]) if key in values else "" for values in (here, there)]
        if largest or described[0] != described[1]:
            yield Change(file, key, *described, largest)


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return json.dumps(value, ensure_ascii=False)


def _largest(here: Any, there: Any) -> float | None:
    if not (isinstance(here, Tensor) and isinstance(there, Tensor)) or here.shape != there.shape:
        return None
    if torch.equal(here, there) or not here.numel():
        return 0.0
    return (here.double() - there.double()).abs().max().item()
