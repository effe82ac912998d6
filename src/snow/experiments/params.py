"""How many parameters some tasks cost beside their source (paper, Tables 5 and 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from snow.errors import SnowError
from snow.methods import METHODS, Method, Snow, installed_methods
from snow.methods.sequential_method import SequentialMethod
from snow.methods.variant import Variant
from snow.source import Source
from snow.subscribe import SUBSCRIPTIONS

PAPER: dict[str, Any] = {"preset": "paper"}


def count_parameters(source: Source, classes: Sequence[int], variants: Sequence[Variant] = ()) -> dict[str, Any]:
    """Plain counts of what is served.

    Args:
        classes: of each task.
        variants: what else is counted, with the options of its label alone.

    Returns:
        `{"source": {"name", "parameters"}, "methods": {METHOD: {"total", "per_task"}}, "subscriptions": {NAME:
        {"overhead"}}, "variants": {LABEL: {"total", "per_task"}}}`. `parameters` is the source with its own head,
        `total` that and all tasks. Methods are as in the paper: SNOW with the delta of `SnowConfig.paper()`. `overhead`
        is that of all its tasks with that subscription.

    Raises:
        SnowError: fewer than two classes, impossible options.
    """
    if not classes or min(classes) < 2:
        raise SnowError(f"a task has at least two classes: {', '.join(map(str, classes)) or 'none'} cannot be")
    own = source.learned_parameters
    methods = {name: _each(source, name, classes, PAPER if name == Snow.name else {}) for name in installed_methods()}
    subscriptions = {name: _each(source, Snow.name, classes, {**PAPER, "subscription": name}) for name in SUBSCRIPTIONS}
    others = {variant.label: per_task(source, variant, classes) for variant in variants}
    return {
        "source": {"name": source.architecture, "parameters": own},
        "methods": _totals(methods, own),
        "subscriptions": {name: {"overhead": sum(counts)} for name, counts in subscriptions.items()},
        "variants": _totals(others, own),
    }


def per_task(source: Source, variant: Variant, classes: Sequence[int]) -> list[int]:
    """What each task adds to the source, in order; counted as it is built, for any source, with or without weights."""
    return _each(source, variant.method, classes, variant.config)


def tasks_of(source: Source, variant: Variant, classes: Sequence[int]) -> list[Method]:
    """Methods for tasks of so many classes, with random weights; each knows those before it where it builds on them."""
    return _built(source, METHODS[variant.method], classes, variant.config)


def _totals(each: Mapping[str, list[int]], source: int) -> dict[str, Any]:
    return {name: {"total": source + sum(counts), "per_task": counts} for name, counts in each.items()}


def _each(source: Source, method: str, classes: Sequence[int], config: Mapping[str, Any]) -> list[int]:
    """What each task adds, in order; counted without memory for the weights where the counts do not depend on them."""
    try:
        with torch.device("meta"):
            return _added(source, METHODS[method], classes, config)
    except RuntimeError:
        return _added(source, METHODS[method], classes, config)


def _added(source: Source, kind: type[Method], classes: Sequence[int], config: Mapping[str, Any]) -> list[int]:
    counts = [method.learned_parameters for method in _built(source, kind, classes, config)]
    if not (issubclass(kind, SequentialMethod) and kind.is_shared):
        return counts
    return [count - before for before, count in zip([source.learned_parameters, *counts], counts, strict=False)]


def _built(source: Source, kind: type[Method], classes: Sequence[int], config: Mapping[str, Any]) -> list[Method]:
    if not issubclass(kind, SequentialMethod):
        return [kind.build(source, n, config) for n in classes]
    earlier: dict[str, Method] = {}
    for index, n in enumerate(classes):
        earlier[str(index)] = kind.build(source, n, {**config, "earlier": dict(earlier)})
    return list(earlier.values())
