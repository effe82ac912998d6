"""Results of `snow bench serving`, interpolated between the measured sizes and extrapolated beyond them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from snow.errors import SnowError
from snow.experiments.plan.under_load import UnderLoad
from snow.store import read_json


@dataclass(frozen=True)
class LinearFit:
    """A straight line `start + slope * x` with `start >= 0` and `slope >= 0`."""

    start: float
    slope: float

    @classmethod
    def fit(cls, xs: Sequence[float], ys: Sequence[float]) -> LinearFit:
        """Fit by least squares of the relative errors; a constant if there is one x only. Every y is positive."""
        if len(set(xs)) < 2:
            return cls(float(np.mean(ys)), 0.0)
        slope, start = np.polyfit(xs, ys, 1, w=1 / np.asarray(ys))
        if slope < 0:
            return cls(float(np.mean(ys)), 0.0)
        return cls(max(0.0, float(start)), float(slope))

    def at(self, x: float) -> float:
        return self.start + self.slope * x


@dataclass(frozen=True)
class PiecewiseLinear:
    """Linear interpolation between two or more points with ascending `xs`, extrapolated along the last segment.

    Below the first point the value never falls under `y0 * x / x0`: no measurement says that smaller passes are
    cheaper per picture.
    """

    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def at(self, x: float) -> float:
        last = min(max(bisect_right(self.xs, x), 1), len(self.xs) - 1)
        (x0, x1), (y0, y1) = self.xs[last - 1 : last + 1], self.ys[last - 1 : last + 1]
        value = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        return max(value, self.ys[0] * min(1.0, x / self.xs[0]))


CONDITIONS = ("source_name", "image_size", "engine", "device", "method", "hardware")
"""Keys that all results files of one plan must agree in."""

MIN_SAMPLES = 3
"""Samples of a pass from which its variation is estimated."""


@dataclass(frozen=True)
class Measurements:
    """Times and memory of one replica.

    Attributes:
        source: seconds of a pass without tasks, by batch size.
        delta: seconds that one task adds to a pass, by the number of rows it computes.
        shared: seconds that any number of tasks adds to a pass, such as for moments of maps, by batch size.
        variation: samples of a pass relative to their median.
        decode: seconds to decode one picture on a decoding thread.
        handling: seconds of the rest of a request on the event loop, by its number of tasks.
        shares_cores: passes use all cores, so decoding and handling slow them down.
        memory_bytes: memory of a replica, by its number of tasks.
        device_memory_bytes: the same on the GPU, or None.
        measured: the `CONDITIONS`, the largest batch and the most tasks of the measured passes.
        under_load: what a service's own work does to its passes; None if no load was measured.
    """

    source: PiecewiseLinear
    delta: PiecewiseLinear
    shared: PiecewiseLinear = PiecewiseLinear((1.0, 2.0), (0.0, 0.0))
    variation: tuple[float, ...] = (1.0,)
    decode: float = 0.0
    handling: LinearFit = LinearFit(0.0, 0.0)
    shares_cores: bool = False
    memory_bytes: LinearFit = LinearFit(0.0, 0.0)
    device_memory_bytes: LinearFit | None = None
    measured: Mapping[str, Any] | None = None
    under_load: UnderLoad | None = None

    @classmethod
    def read(cls, files: Sequence[Path]) -> Measurements:
        """Read the results files of one or several runs of `snow bench serving`.

        Raises:
            SnowError: no file; one cannot be read or holds something else; files differ in their conditions; or all
                passes have the same batch size.
        """
        if not files:
            raise SnowError(
                "a plan needs measurements: run snow bench serving --out measured.json, then snow plan measured.json"
            )
        return cls.of([(str(path), _read(path)) for path in files])

    @classmethod
    def of(cls, results: Sequence[tuple[str, Mapping[str, Any]]]) -> Measurements:
        """Take the results of one or several runs, each with a name for error messages; raises as `read`."""
        (first, known), *_ = results
        for name, result in results:
            if differing := [key for key in CONDITIONS if result[key] != known[key]]:
                raise SnowError(
                    f"{first} and {name} were measured under different conditions: {', '.join(differing)} differ"
                )
        try:
            return cls._of([result for _, result in results])
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            if isinstance(error, SnowError):
                raise
            names = ", ".join(name for name, _ in results)
            raise SnowError(f"{names}: not results of snow bench serving: {type(error).__name__} {error}") from None

    @classmethod
    def _of(cls, results: Sequence[Mapping[str, Any]]) -> Measurements:
        services = [result["service"] for result in results if result.get("service")]
        points = [point for result in results for point in _points(result)]
        source, delta, shared = _passes(points)
        largest = max((result["hub"] for result in results), key=lambda hub: hub["tasks"])
        a_task, tasks = max(0, largest["bytes_a_task"]), largest["tasks"]
        resident = max([largest["resident_bytes"], *(service["resident_bytes"] for service in services)])
        requests = [entry for service in services for entry in service["requests"] or ()]
        device = [(int(n), size) for service in services for n, size in (service["device_bytes"] or {}).items()]
        known = results[0]
        alone = cls(
            source,
            delta,
            shared,
            tuple(sorted(ratio for service in services for ratio in _ratios(service["passes"]))) or (1.0,),
            median(entry["decode_seconds"] for entry in requests) if requests else 0.0,
            _line((entry["tasks"], entry["handling_seconds"]) for entry in requests),
            known["device"] == "cpu" and any(service["threads"] >= service["processors"] for service in services),
            LinearFit(max(0, resident - a_task * tasks), a_task),
            _line(device) if device else None,
            {
                **{key: known[key] for key in CONDITIONS},
                "largest_pass": max(pictures for pictures, *_ in points),
                "most_tasks": max(count for _, count, _ in points),
                "requests": bool(requests),
            },
        )
        return alone._with_loads([service["loads"] for service in services if service.get("loads")])

    def _with_loads(self, loads: Sequence[Mapping[str, Any]]) -> Measurements:
        """Take times of requests and passes from loads of a service, which had its own clients beside it."""
        if not loads:
            return self
        tasks = max(load["tasks"] for load in loads)
        rates = [rate for load in loads if load["tasks"] == tasks for rate in load["rates"]]
        decode, handling = (median(rate[name] for rate in rates) for name in ("decode_seconds", "handling_seconds"))
        by_itself = self.handling.at(tasks)
        factor = handling / by_itself if by_itself else 1.0
        return replace(
            self,
            decode=decode,
            handling=LinearFit(factor * self.handling.start, factor * self.handling.slope),
            under_load=UnderLoad.fit(
                rates, lambda pictures: self.seconds(pictures, [(pictures, tasks)]), decode + handling
            ),
        )

    def seconds(self, pictures: int, runs: Iterable[tuple[int, int]] = ()) -> float:
        """Estimate the median time of a pass, in a service if one was measured.

        Args:
            runs: pairs (rows, tasks): `tasks` tasks compute `rows` rows each.
        """
        tasks = [count * self.delta.at(rows) for rows, count in runs]
        alone = self.source.at(pictures) + sum(tasks) + (self.shared.at(pictures) if tasks else 0.0)
        return alone * self.under_load.slowdown(pictures) if self.under_load else alone

    def request_seconds(self, tasks: float) -> float:
        """Estimate the CPU seconds of a request outside its pass."""
        return self.decode + self.handling.at(tasks)

    def delay(self, tasks: float) -> float:
        """Estimate the seconds that a picture adds to a pass during which it arrives."""
        if self.under_load:
            return self.under_load.delay
        return self.request_seconds(tasks) if self.shares_cores else 0.0

    def ratios(self) -> Sequence[float]:
        """Times of passes relative to what `seconds` and `delay` say of them."""
        return self.under_load.variation if self.under_load else self.variation


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SnowError(f"there is no file {path}: write it with snow bench serving --out {path}")
    results = read_json(path)
    if missing := [key for key in (*CONDITIONS, "source", "snow", "hub", "batch_size") if key not in results]:
        raise SnowError(f"{path} is not a results file of snow bench serving: {', '.join(missing)} is missing")
    return results


def _points(results: Mapping[str, Any]) -> list[tuple[int, int, float]]:
    """List (pictures, tasks, seconds) of each pass of the service, or of the engine where the service was not run."""
    if results.get("service"):
        return [(entry["pictures"], entry["tasks"], entry["seconds"]) for entry in results["service"]["passes"]]
    size = results["batch_size"]
    rows = {0: results["source"], **{int(count): entry for count, entry in results["snow"].items()}}
    return [(size, count, size / entry["images_per_second"]) for count, entry in rows.items()]


def _passes(
    points: Sequence[tuple[int, int, float]],
) -> tuple[PiecewiseLinear, PiecewiseLinear, PiecewiseLinear]:
    """Split passes into the time of the source, of one task, and of any tasks, by batch size; all are made monotone.

    A line through the passes with tasks, if there are two numbers of them, tells what they share.
    """
    sizes = sorted({pictures for pictures, *_ in points})
    if len(sizes) < 2:
        raise SnowError(
            f"all passes have {sizes[0]} pictures, so no other batch size can be estimated: measure more with --sizes, "
            "or give several files with different --batch-size"
        )
    lines = []
    for size in sizes:
        timings = [(count, seconds) for pictures, count, seconds in points if pictures == size]
        if len({count for count, _ in timings}) < 2:
            raise SnowError(f"passes of {size} pictures were measured for one number of tasks only: {timings[0][0]}")
        lines.append(_split(timings))
    xs = tuple(map(float, sizes))
    source, delta, shared = (PiecewiseLinear(xs, _rising(values)) for values in zip(*lines, strict=True))
    return source, delta, shared


def _split(timings: Sequence[tuple[int, float]]) -> tuple[float, float, float]:
    """Split the times of passes with different numbers of tasks: that of the source, of one task, and of any tasks."""
    alone = [seconds for count, seconds in timings if count == 0]
    with_tasks = [(count, seconds) for count, seconds in timings if count > 0]
    if not alone or len({count for count, _ in with_tasks}) < 2:
        line = _line(timings)
        return line.start, line.slope, 0.0
    source, line = median(alone), _line(with_tasks)
    if line.start < source:  # noise: what tasks share cannot be negative
        line = _line(timings)
        return line.start, line.slope, 0.0
    return source, line.slope, line.start - source


def _rising(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(accumulate(values, max))


def _ratios(passes: Iterable[Mapping[str, Any]]) -> list[float]:
    measured = [entry for entry in passes if len(entry["samples"]) >= MIN_SAMPLES]
    return [seconds / entry["seconds"] for entry in measured for seconds in entry["samples"]]


def _line(points: Iterable[tuple[float, float]]) -> LinearFit:
    positive = [(x, y) for x, y in points if y > 0]
    return LinearFit.fit([x for x, _ in positive], [y for _, y in positive]) if positive else LinearFit(0.0, 0.0)
