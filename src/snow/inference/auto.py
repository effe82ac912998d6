"""The automatic engine: runs methods in the way that a short measurement on this machine found fastest."""

from __future__ import annotations

import copy
import hashlib
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from snow import __version__
from snow.errors import SnowError
from snow.inference.compiled.engine import CompiledEngine
from snow.inference.compiled.library import find_compiler, processor
from snow.inference.engine import Engine
from snow.inference.fused import FoldedEngine, FusedEngine, example, fuse_for_inference
from snow.inference.stacked_engine import StackedEngine
from snow.methods import METHODS, Method
from snow.source import Features, Source
from snow.store import read_json, write_json
from snow.store.cache_folder import cache_folder

log = logging.getLogger("snow.inference")

RUNNERS: dict[str, type[FusedEngine]] = {
    engine.name: engine for engine in (CompiledEngine, StackedEngine, FoldedEngine)
}
"""Ways to run methods behind one source."""

TASKS, PICTURES = (1, 6, 32), (1, 8)
"""Numbers of tasks and of pictures that are measured; other numbers do as the largest of these below them."""

WARM_UP = 1000
"""An engine that answers fewer pairs of a task and a picture is not worth a measurement, which takes some seconds."""

ROUNDS = 3
CLASSES = 10
FILE = "engines.json"


class AutoEngine(FusedEngine):
    """Runs the source in PyTorch with BatchNorm folded, and methods compiled, stacked or one after the other.

    Which of these is fastest depends on the processor, the source and the numbers of tasks and pictures. It is measured
    once per machine, which takes a few seconds, and kept in the cache folder, see `measure`. Before, methods run one
    after the other.
    """

    name: ClassVar[str] = "auto"
    isolated: ClassVar[bool] = False

    def __init__(self, source: Source, folder: Path | None = None) -> None:
        super().__init__(source, folder)
        self._runners: dict[str, FusedEngine] = {}
        self._choices: dict[str, str] | None = None
        self._pairs = 0

    def prepare(self, source: Source) -> Source:
        return fuse_for_inference(source)

    def forget_methods(self) -> None:
        self._runners.clear()
        self._choices = None

    def moments(self, features: Features, taps: Collection[str]) -> dict[str, Tensor]:
        compiled = self._runners.get(CompiledEngine.name)
        return super().moments(features, taps) if compiled is None else compiled.moments(features, taps)

    def answers(self, methods: Sequence[Method], features: Features) -> list[Tensor | Exception]:
        return self._runner(len(methods), len(features.images)).answers(methods, features) if methods else []

    def answer(self, method: Method, features: Features) -> Tensor:
        [answer] = self.answers([method], features)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def warm_up(self) -> None:
        super().warm_up()
        self.measure()

    def measure(self, again: bool = False) -> dict[str, str]:
        """Find the fastest way to run methods: number of tasks and pictures, as in "6x8" -> name in `RUNNERS`.

        The result is read from the cache folder if it is there for this processor, source and these versions.

        Args:
            again: measure even if it is there.
        """
        path, key = cache_folder() / FILE, self._key()
        kept = _read(path)
        if again or key not in kept:
            log.info("the ways to run tasks are measured, once for this machine and source")
            kept = {**_read(path), key: self._measured()}
            _write(path, kept)
        self._choices = {
            numbers: min(times, key=lambda name, times=times: times[name]) for numbers, times in kept[key].items()
        }
        return self._choices

    def _runner(self, tasks: int, pictures: int) -> Engine:
        self._pairs += tasks * pictures
        if self._choices is None and (self._pairs > WARM_UP or self._key() in _read(cache_folder() / FILE)):
            self.measure()
        name = FoldedEngine.name if self._choices is None else self._choices[_numbers(tasks, pictures)]
        if name not in self._runners:
            self._runners[name] = RUNNERS[name](self.source)
        return self._runners[name]

    def _key(self) -> str:
        """Name this processor, this source and the versions of all that a measurement depends on."""
        preprocessing = self.source.preprocessing
        facts = (
            processor(), str(torch.__version__), __version__, str(torch.get_num_threads()), str(self.device),
            find_compiler() or "", type(self).name, self.source.architecture, str(preprocessing.image_size),
        )  # fmt: skip
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]

    @torch.no_grad()
    def _measured(self) -> dict[str, dict[str, float]]:
        """Time each way: numbers of tasks and pictures -> name -> seconds."""
        method = METHODS["snow"].build(self.source, CLASSES).export_form().to(self.device)
        methods = [method, *(copy.deepcopy(method) for _ in range(max(TASKS) - 1))]
        features = self.prepared_source()(example(self.source).contiguous(memory_format=torch.channels_last))
        times: dict[str, dict[str, float]] = {}
        for name, runner in RUNNERS.items():
            try:
                engine = runner(self.source)
                for pictures in PICTURES:
                    batch = features.map_tensors(lambda value, count=pictures: _repeated(value, count))
                    for tasks in TASKS:
                        seconds = min(_seconds(engine, methods[:tasks], batch) for _ in range(ROUNDS))
                        times.setdefault(f"{tasks}x{pictures}", {})[name] = seconds
            except SnowError as error:
                log.info("%s is left out: %s", name, error)
        return times


def _numbers(tasks: int, pictures: int) -> str:
    """Name the measured numbers that stand for these."""
    return "x".join(
        str(max(number for number in measured if number <= max(count, 1)))
        for measured, count in ((TASKS, tasks), (PICTURES, pictures))
    )


def _seconds(engine: FusedEngine, methods: Sequence[Method], features: Features) -> float:
    """Time an answer of all methods, with the moments that they read."""
    started = time.perf_counter()
    moments = engine.moments(features, methods[0].selected_moment_taps | methods[0].moment_taps)
    for answer in engine.answers(methods, replace(features, moments=moments)):
        if isinstance(answer, Exception):
            raise answer
        answer.cpu()  # waits for the device
    return time.perf_counter() - started


def _repeated(value: Tensor, count: int) -> Tensor:
    """Repeat one picture's tensor, in its memory format: (1, ...) -> (count, ...)."""
    repeated = value.expand(count, *value.shape[1:])
    return repeated.contiguous(memory_format=torch.channels_last if value.ndim == 4 else torch.contiguous_format)


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path) if path.is_file() else {}
    except SnowError:
        return {}  # it can be made again


def _write(path: Path, content: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except (OSError, SnowError) as error:
        log.info("%s cannot be written, and is measured anew next time: %s", path, error)
