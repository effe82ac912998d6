"""Count the parameters that tasks add to their source (paper, Tables 5 and 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
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
    """Count the parameters of the source, of every method and of every subscription, in their form for inference.

    Args:
        classes: number of classes of each task.
        variants: further methods to count, each with the options of its label.

    Returns:
        `{"source": {"name", "parameters"}, "methods": {METHOD: {"total", "per_task"}}, "subscriptions": {NAME:
        {"overhead"}}, "variants": {LABEL: {"total", "per_task"}}}`. `parameters` counts the source with its own head,
        `total` the source and all tasks. Methods that do not work on the source are left out; the others are as
        in the paper: SNOW with the delta of `SnowConfig.paper()`. `overhead` counts all tasks of SNOW with that
        subscription.

    Raises:
        SnowError: fewer than two classes, or invalid options.
    """
    if not classes or min(classes) < 2:
        raise SnowError(f"every task needs at least two classes, not {', '.join(map(str, classes)) or 'none'}")
    own = source.learned_parameters
    methods = {}
    for name in installed_methods():
        with suppress(SnowError) if source.gives_tokens else nullcontext():  # some need a convolutional source
            methods[name] = _counts(source, name, classes, PAPER if name == Snow.name else {})
    subscriptions = {
        name: _counts(source, Snow.name, classes, {**PAPER, "subscription": name}) for name in SUBSCRIPTIONS
    }
    variant_counts = {variant.label: per_task(source, variant, classes) for variant in variants}
    return {
        "source": {"name": source.architecture, "parameters": own},
        "methods": _totals(methods, own),
        "subscriptions": {name: {"overhead": sum(counts)} for name, counts in subscriptions.items()},
        "variants": _totals(variant_counts, own),
    }


def per_task(source: Source, variant: Variant, classes: Sequence[int]) -> list[int]:
    """Count what each task adds to the source, in order. The source may be a meta source without weights."""
    return _counts(source, variant.method, classes, variant.config)


def tasks_of(source: Source, variant: Variant, classes: Sequence[int]) -> list[Method]:
    """Build one method per task with random weights; successive methods get the tasks before them."""
    return _built(source, METHODS[variant.method], classes, variant.config)


def _totals(per_task: Mapping[str, list[int]], source: int) -> dict[str, Any]:
    return {name: {"total": source + sum(counts), "per_task": counts} for name, counts in per_task.items()}


def _counts(source: Source, method: str, classes: Sequence[int], config: Mapping[str, Any]) -> list[int]:
    """Count what each task adds, on the meta device if the method can be built there."""
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
