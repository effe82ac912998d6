"""What was measured at a few numbers, between them and beyond."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from snow.errors import SnowError
from snow.store import read_json


@dataclass(frozen=True)
class PiecewiseLinear:
    """`start + slope * x`, neither below zero."""

    start: float
    slope: float

    @classmethod
    def fit(cls, xs: Sequence[float], ys: Sequence[float]) -> PiecewiseLinear:
        """The line with the least squares of relative errors; a flat one through a single point. `ys` are above 0."""
        if len(set(xs)) < 2:
            return cls(float(np.mean(ys)), 0.0)
        slope, start = np.polyfit(xs, ys, 1, w=1 / np.asarray(ys))
        if slope < 0:
            return cls(float(np.mean(ys)), 0.0)
        return cls(max(0.0, float(start)), float(slope))

    def at(self, x: float) -> float:
        return self.start + self.slope * x


@dataclass(frozen=True)
class Chain:
    """Straight from one measured point to the next, and on as the last two go; `xs` rise, there are two or more.

    Below the first point it is never less than in proportion: nobody measured that a smaller pass is cheaper than that.
    """

    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def at(self, x: float) -> float:
        place = min(max(bisect_right(self.xs, x), 1), len(self.xs) - 1)
        (x0, x1), (y0, y1) = self.xs[place - 1 : place + 1], self.ys[place - 1 : place + 1]
        found = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        return max(found, self.ys[0] * min(1.0, x / self.xs[0]))


ALIKE = ("source_name", "image_size", "engine", "device", "method", "hardware")
"""What the files of one plan agree in."""

SAMPLES = 3
"""Of a pass, from which on they tell how it varies."""


@dataclass(frozen=True)
class Figures:
    """A replica in seconds and bytes.

    Attributes:
        source: seconds of a pass without tasks, by its pictures.
        delta: seconds that a task adds to a pass, by the pictures from the first to the last that ask it.
        spread: what a pass took, as parts of its median.
        decode: seconds for one picture, on one of the service's decoding threads.
        handling: seconds of the rest of a request, on the event loop, by the tasks that it asks.
        shared: whether passes use all processors, so that what requests take beside is taken from them.
        held: bytes of a replica, by its tasks.
        device_held: the same on the GPU, or None.
        measured: what was measured (`ALIKE`), the most pictures and the most tasks of a pass.
    """

    source: Chain
    delta: Chain
    spread: tuple[float, ...] = (1.0,)
    decode: float = 0.0
    handling: PiecewiseLinear = PiecewiseLinear(0.0, 0.0)
    shared: bool = False
    held: PiecewiseLinear = PiecewiseLinear(0.0, 0.0)
    device_held: PiecewiseLinear | None = None
    measured: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, files: Sequence[Path]) -> Figures:
        """From the results files of one or several runs.

        Raises:
            SnowError: a file cannot be read or holds something else; files differ in what they measured; together they
                have one size of batch only.
        """
        if not files:
            raise SnowError(
                "a plan needs figures: snow bench serving --out measured.json, then snow plan measured.json"
            )
        return cls.of([(str(path), _read(path)) for path in files])

    @classmethod
    def of(cls, results: Sequence[tuple[str, Mapping[str, Any]]]) -> Figures:
        """From results by name; as `read`."""
        (first, known), *_ = results
        for name, one in results:
            if differing := [key for key in ALIKE if one[key] != known[key]]:
                raise SnowError(f"{first} and {name} measured different things: {', '.join(differing)} differ")
        try:
            return cls._of([one for _, one in results])
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            if isinstance(error, SnowError):
                raise
            names = ", ".join(name for name, _ in results)
            raise SnowError(f"{names}: not what snow bench serving writes: {type(error).__name__} {error}") from None

    @classmethod
    def _of(cls, results: Sequence[Mapping[str, Any]]) -> Figures:
        services = [one["service"] for one in results if one.get("service")]
        points = [point for one in results for point in _points(one)]
        source, delta = _passes(points)
        largest = max((one["hub"] for one in results), key=lambda hub: hub["tasks"])
        a_task, tasks = max(0, largest["bytes_a_task"]), largest["tasks"]
        resident = max([largest["resident_bytes"], *(one["resident_bytes"] for one in services)])
        requests = [entry for one in services for entry in one["requests"] or ()]
        device = [(int(count), held) for one in services for count, held in (one["device_bytes"] or {}).items()]
        known = results[0]
        return cls(
            source,
            delta,
            tuple(sorted(ratio for one in services for ratio in _ratios(one["passes"]))) or (1.0,),
            median(entry["decode_seconds"] for entry in requests) if requests else 0.0,
            _line((entry["tasks"], entry["handling_seconds"]) for entry in requests),
            known["device"] == "cpu" and any(one["threads"] >= one["processors"] for one in services),
            PiecewiseLinear(max(0, resident - a_task * tasks), a_task),
            _line(device) if device else None,
            {
                **{key: known[key] for key in ALIKE},
                "largest_pass": max(pictures for pictures, *_ in points),
                "most_tasks": max(count for _, count, _ in points),
                "requests": bool(requests),
            },
        )

    def seconds(self, pictures: int, runs: Iterable[tuple[int, int]] = ()) -> float:
        """The median of a pass.

        Args:
            runs: so many pictures from the first to the last that ask a task, and so many tasks of which that holds.
        """
        return self.source.at(pictures) + sum(tasks * self.delta.at(run) for run, tasks in runs)

    def beside(self, tasks: float) -> float:
        """Processor seconds of a request outside its pass."""
        return self.decode + self.handling.at(tasks)

    def burdened(self, seconds: float) -> Figures:
        """With so much more for each request, such as a client on the same machine takes."""
        return replace(self, handling=PiecewiseLinear(self.handling.start + seconds, self.handling.slope))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SnowError(f"there is no file {path}: snow bench serving --out {path} writes one")
    found = read_json(path)
    if missing := [key for key in (*ALIKE, "source", "snow", "hub", "batch_size") if key not in found]:
        raise SnowError(f"{path} is not what snow bench serving writes: {', '.join(missing)} missing")
    return found


def _points(results: Mapping[str, Any]) -> list[tuple[int, int, float]]:
    """(pictures, tasks, seconds) of each pass: of the service, or, in results without it, of the engine alone."""
    if results.get("service"):
        return [(one["pictures"], one["tasks"], one["seconds"]) for one in results["service"]["passes"]]
    size = results["batch_size"]
    rows = {0: results["source"], **{int(count): entry for count, entry in results["snow"].items()}}
    return [(size, count, size / entry["images_per_second"]) for count, entry in rows.items()]


def _passes(points: Sequence[tuple[int, int, float]]) -> tuple[Chain, Chain]:
    """What the source and what a task takes, by pictures. Both rise, whatever the noise of a measurement says."""
    sizes = sorted({pictures for pictures, *_ in points})
    if len(sizes) < 2:
        raise SnowError(
            f"passes of {sizes[0]} pictures alone do not tell what others take: measure more with --sizes, "
            "or give several files, each with another --batch-size"
        )
    lines = []
    for size in sizes:
        found = [(count, seconds) for pictures, count, seconds in points if pictures == size]
        if len({count for count, _ in found}) < 2:
            raise SnowError(f"passes of {size} pictures were measured for one number of tasks only: {found[0][0]}")
        lines.append(_line(found))
    source, delta = [line.start for line in lines], [line.slope for line in lines]
    xs = tuple(map(float, sizes))
    return Chain(xs, _rising(source)), Chain(xs, _rising(delta))


def _rising(values: Iterable[float]) -> tuple[float, ...]:
    found: list[float] = []
    for value in values:
        found.append(max([value, *found[-1:]]))
    return tuple(found)


def _ratios(passes: Iterable[Mapping[str, Any]]) -> list[float]:
    return [took / one["seconds"] for one in passes if len(one["samples"]) >= SAMPLES for took in one["samples"]]


def _line(points: Iterable[tuple[float, float]]) -> PiecewiseLinear:
    found = [(x, y) for x, y in points if y > 0]
    return PiecewiseLinear.fit([x for x, _ in found], [y for _, y in found]) if found else PiecewiseLinear(0.0, 0.0)
