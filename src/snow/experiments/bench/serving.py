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
from snow.experiments.bench.arithmetic import count_multiplications, speed_limit
from snow.experiments.bench.service import SIZES, service_cost
from snow.experiments.results.record import open_results, save_results
from snow.experiments.results.table import Spread, environment, markdown_table
from snow.hub import Artifact, Hub
from snow.inference import ENGINES, Predictor, open_engine
from snow.inference.module_tree import copy_tree, is_tree
from snow.methods import Method
from snow.methods.variant import Variant
from snow.process.memory import resident_bytes
from snow.process.subprocesses import interleaved
from snow.source import Source

WARM_UP = 2
"""Rounds before the clock starts: engines prepare each task at its first answer."""

NETWORKS = 6
"""So many fine-tuned networks are held at most; more are reckoned from these."""

CLASSES = 10

MOST_IN_HUB = 64
"""Tasks at most of the hub on disk that is opened and served; passes are measured with more."""


@dataclass(frozen=True)
class ServingBench:
    """What is measured.

    Attributes:
        source: as `Source.open` takes it. Its weights do not matter, and are not looked for.
        tasks: numbers of tasks that are asked at once.
        snow: method snow, with options if so wished.
        engine: name of the engine; or several, with commas, that are measured side by side. The first one also
            serves the hub and runs the fine-tuned networks.
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
        for name in self.engines:
            if name != "auto" and name not in ENGINES:
                raise SnowError(f"no engine {name!r}: there are auto, {', '.join(ENGINES)}")

    @property
    def engines(self) -> tuple[str, ...]:
        return tuple(self.engine.split(","))

    @property
    def in_hub(self) -> tuple[int, ...]:
        """Numbers of tasks that the hub on disk is asked for."""
        return tuple(sorted({min(count, MOST_IN_HUB) for count in self.tasks}))

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

    def methods(self, name: str, source: Source, count: int) -> list[Method]:
        """Make some that have learned nothing, each with tensors of its own."""
        first = self.method(name, source)
        if not is_tree(first):
            return [first, *(self.method(name, source) for _ in range(count - 1))]
        return [first, *(copy_tree(first, lambda _name, value: value.clone()) for _ in range(count - 1))]


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
    sections = ("source", "snow", "fo", "ft", "multiplications", "engines", "hub", "service")
    results = open_results(out, settings, {section: {} for section in sections})
    speeds, multiplications = _speeds(work, tell)
    results["multiplications"] = multiplications
    first, *others = work.engines
    networks = {count: took for (engine, name, count), took in speeds.items() if (engine, name) == (first, "ft")}
    results |= _engine_rows(work, speeds, first, networks, multiplications)
    results["ft"] = {str(count): _summary(work, took) for count, took in networks.items()}
    results["engines"] = {name: _engine_rows(work, speeds, name, networks, multiplications) for name in others}
    with on_disk(work, tell) as path:
        results["hub"] = _hub(work, path, tell)
        results["service"] = _service(work, path, tell) if work.sizes else {}
    save_results(out, results)
    return results


Speeds = dict[tuple[str, str, int], list[float]]
"""Engine, method and number of tasks -> seconds of a batch in each round."""


def _engine_rows(
    work: ServingBench,
    speeds: Speeds,
    engine: str,
    networks: Mapping[int, list[float]],
    multiplications: Mapping[str, int],
) -> dict[str, Any]:
    """Lay out the rows of one engine: beside its source alone, beside fine-tuned networks, and the arithmetic limit."""
    alone = speeds[engine, "source", 0]
    rows: dict[str, Any] = {"source": _summary(work, alone), "snow": {}, "fo": {}}
    for name in ("snow", "fo"):
        for count in work.tasks:
            took = speeds[engine, name, count]
            held = max(number for number in networks if number <= count)
            ratios = [count / held * ft / mine for ft, mine in zip(networks[held], took, strict=True)]
            rows[name][str(count)] = {
                **_summary(work, took),
                **_ratio("of_source", [source / mine for source, mine in zip(alone, took, strict=True)]),
                **_ratio("over_ft", ratios),
                "limit_of_source": speed_limit(multiplications["source"], multiplications[name], count),
            }
    return rows


def _speeds(work: ServingBench, tell: Callable[[str], None]) -> tuple[Speeds, dict[str, int]]:
    """Time every row, and count the multiplications of a picture."""
    source = work.open()
    predictors = {name: Predictor(open_engine(name, source)) for name in work.engines}
    shape = (work.batch_size, 3, work.image_size, work.image_size)
    images = torch.randint(256, shape, dtype=torch.uint8, device=work.device)
    rows: dict[tuple[str, int], dict[str, Method | None]] = {("source", 0): {"source": None}}
    examples: dict[str, Method] = {}
    for name in ("snow", "fo", "ft"):
        most = min(max(work.tasks), NETWORKS) if name == "ft" else max(work.tasks)
        tell(f"{name}: {most} tasks …")
        methods = work.methods(name, source, most)
        examples[name] = methods[0]
        for count in sorted({1, *(min(count, most) for count in work.tasks)} if name == "ft" else {*work.tasks}):
            rows[name, count] = {str(number): method for number, method in enumerate(methods[:count])}
    took: Speeds = {
        (engine, *row): [] for engine in work.engines for row in rows if row[0] != "ft" or engine == work.engines[0]
    }
    for number in range(-WARM_UP, work.rounds):
        tell(f"round {number + 1} of {work.rounds} …" if number >= 0 else "warm-up …")
        for (engine, name, count), seconds in took.items():
            measured = _seconds(predictors[engine], images, rows[name, count])
            seconds += [measured] if number >= 0 else []
    return took, count_multiplications(source, examples)


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
        for number in range(max(work.in_hub) + 1):
            hub.add(
                Artifact(f"task-{number:04}", tuple("abcdefghij"), work.method("snow", source), source.description())
            )
        yield path


def _hub(work: ServingBench, path: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """What it takes to open a hub with the most tasks, to hold them, and to add one more."""
    most = max(work.in_hub)
    calls = {str(count): partial(_opened, work, path, count) for count in sorted({1, most})}
    *_, found = interleaved(calls, 1, tell)
    few, many = found["1"][0], found[str(most)][0]
    held = (many.bytes - few.bytes) / max(1, most - 1)
    return {
        "tasks": most,
        "load_seconds": many.load_seconds,
        "add_seconds": many.add_seconds,
        "resident_bytes": many.bytes,
        "bytes_a_task": int(held),
    }


def _service(work: ServingBench, path: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """As `service_cost`, in a process of its own."""
    cost = partial(service_cost, path, work.engines[0], work.device, work.in_hub, work.sizes, work.rounds)
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
    hub = Hub.open(path, engine=work.engines[0])
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
    for engine, rows in results.get("engines", {}).items():
        yield (f"source alone ({engine})", "", *_cells(rows["source"]))
        for name in ("snow", "fo"):
            for count, entry in rows[name].items():
                yield (f"{name} ({engine})", count, *_cells(entry))


SERVING_COLUMNS = ("", "tasks", "images/s", "range", "of source", "limit", "× ft")
"""The limit is the share of the source's speed that the multiplications of the tasks leave."""


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    least, most = entry["images_per_second_range"]
    names = ("of_source", "limit_of_source", "over_ft")
    ratios = (f"{entry[name]:.3g}" if name in entry else "" for name in names)
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
