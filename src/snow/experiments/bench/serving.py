"""Serving speed: any number of tasks on one source, beside the source alone and beside a whole network a task."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.experiments.bench.service import SIZES, service_cost
from snow.experiments.results.record import open_results, save_results
from snow.experiments.results.table import Spread, environment, markdown_table
from snow.hub import Artifact, Hub
from snow.inference import ENGINES, Predictor, open_engine
from snow.methods import Method
from snow.methods.variant import Variant
from snow.process.memory import resident_bytes
from snow.process.subprocesses import interleaved
from snow.source import Source

NETWORKS = 6
"""So many fine-tuned networks are held at most; more are reckoned from these."""

CLASSES = 10


@dataclass(frozen=True)
class ServingBench:
    """What is measured.

    Attributes:
        source: as `Source.open` takes it. Its weights do not matter, and are not looked for.
        tasks: numbers of tasks that are asked at once.
        snow: method snow, with options if so wished.
        engine: what answers, for all rows alike.
        rounds: times that each row is measured, in turn with the others, in one process.
        sizes: pictures in the passes of the service that are measured besides, for `snow plan`; none: they are not.
    """

    source: str
    image_size: int
    batch_size: int = 32
    tasks: tuple[int, ...] = (1, 6)
    snow: Variant = Variant("snow")
    engine: str = "auto"
    device: str = "cpu"
    rounds: int = 5
    sizes: tuple[int, ...] = SIZES

    def __post_init__(self) -> None:
        if not self.tasks or min(self.tasks) < 1 or min(self.batch_size, self.rounds, *self.sizes) < 1:
            raise SnowError("a measurement takes at least one task, one picture and one round")
        if self.snow.method != "snow":
            raise SnowError(f"the tasks are those of method snow, not {self.snow.label}")
        if self.engine != "auto" and self.engine not in ENGINES:
            raise SnowError(f"no engine {self.engine!r}: there are auto, {', '.join(ENGINES)}")

    def open(self) -> Source:
        torch.manual_seed(0)
        return Source.open(self.source, pretrained=False, image_size=self.image_size).to(self.device)

    def method(self, name: str, source: Source) -> Method:
        """One that has learned nothing, with weights at random."""
        variant = self.snow if name == "snow" else Variant(name)
        method = variant.build(source, CLASSES).export_form()
        for parameter in method.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
        return method.to(self.device)


def measure_serving(
    work: ServingBench, out: Path | None = None, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Measures all rows and returns the results as JSON values.

    Args:
        out: file for the results.
        tell: hears of each stage before it begins.

    Raises:
        SnowError: `out` holds other results; as `Source.open`.
    """
    settings = {
        "source_name": work.source,
        "image_size": work.image_size,
        "batch_size": work.batch_size,
        "engine": work.engine,
        "device": work.device,
        "method": work.snow.label,
        "rounds": work.rounds,
        "sizes": list(work.sizes),
    }
    results = open_results(out, settings, {"source": {}, "snow": {}, "fo": {}, "ft": {}, "hub": {}, "service": {}})
    speeds = _speeds(work, tell)
    limit = speeds["source", 0]
    results["source"] = _summary(work, limit)
    for name in ("snow", "fo", "ft"):
        results[name] = {str(count): _summary(work, took) for (one, count), took in speeds.items() if one == name}
    for name in ("snow", "fo"):
        for count in work.tasks:
            took = speeds[name, count]
            networks = max(held for one, held in speeds if one == "ft" and held <= count)
            ratios = [count / networks * ft / mine for ft, mine in zip(speeds["ft", networks], took, strict=True)]
            results[name][str(count)] |= {
                **_ratio("of_source", [source / mine for source, mine in zip(limit, took, strict=True)]),
                **_ratio("over_ft", ratios),
            }
    with on_disk(work, tell) as path:
        results["hub"] = _hub(work, path, tell)
        results["service"] = _service(work, path, tell) if work.sizes else {}
    save_results(out, results)
    return results


def _speeds(work: ServingBench, tell: Callable[[str], None]) -> dict[tuple[str, int], list[float]]:
    """By row the seconds that a batch took in each round."""
    source = work.open()
    predictor = Predictor(open_engine(work.engine, source))
    shape = (work.batch_size, 3, work.image_size, work.image_size)
    images = torch.randint(256, shape, dtype=torch.uint8, device=work.device)
    rows: dict[tuple[str, int], dict[str, Method | None]] = {("source", 0): {"source": None}}
    for name in ("snow", "fo", "ft"):
        most = min(max(work.tasks), NETWORKS) if name == "ft" else max(work.tasks)
        tell(f"{name}: {most} tasks …")
        methods = [work.method(name, source) for _ in range(most)]
        for count in sorted({1, *(min(count, most) for count in work.tasks)} if name == "ft" else {*work.tasks}):
            rows[name, count] = {str(number): method for number, method in enumerate(methods[:count])}
    for asked in rows.values():
        predictor.logits(images, asked)
    took: dict[tuple[str, int], list[float]] = {row: [] for row in rows}
    for number in range(work.rounds):
        tell(f"round {number + 1} of {work.rounds} …")
        for row, asked in rows.items():
            took[row].append(_seconds(predictor, images, asked))
    return took


def _seconds(predictor: Predictor, images: Tensor, methods: Mapping[str, Method | None]) -> float:
    started = time.perf_counter()
    for logits in predictor.logits(images, methods).values():
        logits.cpu()  # waits for the device
    return time.perf_counter() - started


@contextmanager
def on_disk(work: ServingBench, tell: Callable[[str], None] = lambda line: None) -> Generator[Path]:
    """A hub with one task more than the most that are asked, until the end."""
    tell("a hub on disk …")
    with TemporaryDirectory(prefix="snow-") as folder:
        path, source = Path(folder) / "hub", work.open()
        hub = Hub.create(path, source)
        for number in range(max(work.tasks) + 1):
            hub.add(
                Artifact(f"task-{number:04}", tuple("abcdefghij"), work.method("snow", source), source.description())
            )
        yield path


def _hub(work: ServingBench, path: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """What it takes to open a hub with the most tasks, to hold them, and to add one more."""
    calls = {str(count): partial(_opened, work, path, count) for count in sorted({1, max(work.tasks)})}
    *_, found = interleaved(calls, 1, tell)
    few, many = found["1"][0], found[str(max(work.tasks))][0]
    held = (many.bytes - few.bytes) / max(1, max(work.tasks) - 1)
    return {
        "tasks": max(work.tasks),
        "load_seconds": many.load_seconds,
        "add_seconds": many.add_seconds,
        "resident_bytes": many.bytes,
        "bytes_a_task": int(held),
    }


def _service(work: ServingBench, path: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """As `service_cost`, in a process of its own."""
    cost = partial(service_cost, path, work.engine, work.device, work.tasks, work.sizes, work.rounds)
    *_, found = interleaved({"the service": cost}, 1, tell)
    return found["the service"][0]


@dataclass(frozen=True)
class _Opened:
    load_seconds: float
    add_seconds: float
    bytes: int


def _opened(work: ServingBench, path: Path, count: int) -> _Opened:
    """In a process of its own: opens a hub, asks so many of its tasks, and then one more."""
    started = time.perf_counter()
    hub = Hub.open(path, engine=work.engine)
    hub.source.to(work.device)
    names = hub.names()
    for name in names[:count]:
        hub.task(name)
    load = time.perf_counter() - started
    image = torch.zeros(1, 3, work.image_size, work.image_size, dtype=torch.uint8)
    hub.logits(image, names[:count])
    held = resident_bytes()
    usual = median(_timed(lambda: hub.logits(image, names[:count])) for _ in range(3))
    return _Opened(load, _timed(lambda: hub.logits(image, names[: count + 1])) - usual, held)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _summary(work: ServingBench, took: list[float]) -> dict[str, Any]:
    speed = Spread.of(work.batch_size / seconds for seconds in took)
    return {"images_per_second": speed.median, "images_per_second_range": speed.range}


def _ratio(name: str, samples: list[float]) -> dict[str, Any]:
    """Of rounds: what was measured one after the other is set side by side."""
    spread = Spread.of(samples)
    return {name: spread.median, f"{name}_range": spread.range}


def serving_rows(results: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The results as rows of a table, headed by `SERVING_COLUMNS`."""
    yield ("source alone", "", *_cells(results["source"]))
    for name in ("snow", "fo", "ft"):
        for count, entry in results[name].items():
            yield (name, count, *_cells(entry))


SERVING_COLUMNS = ("", "tasks", "images/s", "range", "of source", "× ft")


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    least, most = entry["images_per_second_range"]
    ratios = (f"{entry[name]:.2f}" if name in entry else "" for name in ("of_source", "over_ft"))
    return (f"{entry['images_per_second']:.1f}", f"{least:.1f}–{most:.1f}", *ratios)


def markdown(results: Mapping[str, Any]) -> str:
    """The table, what a hub takes, and a line on where the figures come from."""
    hub = results["hub"]
    return (
        f"{markdown_table(SERVING_COLUMNS, list(serving_rows(results)))}\n"
        f"A hub of {hub['tasks']} tasks opens in {hub['load_seconds']:.2f} s and holds "
        f"{hub['bytes_a_task'] / 1e6:.1f} MB a task; one more is added in {1e3 * hub['add_seconds']:.0f} ms.\n\n"
        f"`{results['command']}`: {results['source_name']} (random weights) at {results['image_size']} px, batch "
        f"{results['batch_size']}, engine {results['engine']}, {results['rounds']} rounds; "
        f"{environment(results)}.\n"
    )
