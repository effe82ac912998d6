"""The predictor: one pass of the source over a batch, then every task on the pictures that ask for it.

Everything that answers pictures goes through here: `Hub.predict`, the service, the check of an export, the benchmarks.
The way down is request -> features -> method -> prediction.

Shape letters: B pictures, S side of a picture in pixels, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.inference.appearance import appearance
from snow.inference.engine import Engine
from snow.inference.familiarity import Familiarity
from snow.inference.features import moments_read, observe_chunks
from snow.inference.prediction import Failure
from snow.inference.reference import Traits
from snow.kinds import LabelKind, Prediction
from snow.methods import Method
from snow.source import Features

log = logging.getLogger("snow.inference")

CHUNK_SIZE = {"cpu": 32}
"""Pictures per chunk of a pass, by device type. On a CPU, larger chunks take more memory and are no faster."""


class Request(NamedTuple):
    """A task to ask.

    Attributes:
        method: the task's trained method; None asks the source's own head.
        labels: the kind of its labels, which makes predictions of logits.
        familiarity: statistics of the training pictures, which tell how familiar a picture is; None: it is not told.
    """

    method: Method | None
    labels: LabelKind
    familiarity: Familiarity | None = None

    @property
    def judges(self) -> bool:
        """Whether predictions say how familiar pictures are. No pass of the source is made for that alone."""
        return self.familiarity is not None and (self.method is None or self.method.uses_source)

    @property
    def compares(self) -> bool:
        """Whether windows of pictures can be compared with those of training."""
        return self.judges and self.familiarity is not None and self.familiarity.reference is not None


class Judged(NamedTuple):
    """What tells how familiar the pictures of a batch are.

    Attributes:
        final: (n, D).
        appearance: (n, A), see `snow.inference.appearance`; None if no predictions have traits.
    """

    final: Tensor
    appearance: Tensor | None


class Predictor:
    """Answers pictures with one engine. Only one thread at a time may use it.

    Args:
        engine: runs the source and the methods.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._moment_taps: WeakKeyDictionary[Method, frozenset[str]] = WeakKeyDictionary()

    @torch.no_grad()
    def run(
        self,
        images: Tensor | Sequence[Tensor],
        requests: Sequence[Mapping[str, Request | Failure]],
        with_traits: bool = False,
    ) -> list[dict[str, Prediction | Failure]]:
        """Predict with one pass of the source: B pictures -> B dicts of predictions by task.

        A task that fails (it raises, or gives NaN) gets a `Failure` and leaves the other tasks as they are.

        Args:
            images: B pictures of shape (3, S, S), uint8, on any device.
            requests: for each picture the tasks to ask, by name. A `Failure` is passed on as it is.
            with_traits: predictions have traits, by which windows of pictures are compared with those of training.

        Raises:
            SnowError: the pictures do not have the source's size.
        """
        order, ranges = group_by_task(requests)
        tasks = {name: task for asked in requests for name, task in asked.items() if isinstance(task, Request)}
        predictions: dict[str, Sequence[Prediction | Failure]] = {}
        if tasks:
            methods = {name: self._on_device(task.method) for name, task in tasks.items()}
            judging = any(task.judges for task in tasks.values())
            readers = [*methods.values(), *([None] if judging else [])]  # the last one reads all final features
            batch = self._batch([images[picture] for picture in order])
            chunks = self._observe(readers, batch)
            outputs: dict[str, list[Tensor] | Exception] = {name: [] for name in tasks}
            finals: list[Tensor] = []
            first = 0
            for chunk in chunks:  # all tasks before any is decoded: a GPU computes the next while this process decodes
                self._answer(chunk, first, methods, ranges, outputs)
                finals += [chunk.final] if judging else []
                first += len(chunk.images)
                del chunk  # its maps, before the next chunk passes
            is_compared = with_traits and any(task.compares for task in tasks.values())
            looks = appearance(batch) if is_compared else None
            seen = Judged(torch.cat(finals).float().cpu(), looks) if judging else None
            predictions = {name: _decode(name, task, outputs[name], ranges[name], seen) for name, task in tasks.items()}
        place = {picture: position for position, picture in enumerate(order)}
        return [
            {
                name: task if isinstance(task, Failure) else predictions[name][place[picture] - ranges[name][0]]
                for name, task in asked.items()
            }
            for picture, asked in enumerate(requests)
        ]

    @torch.no_grad()
    def logits(self, images: Tensor, methods: Mapping[str, Method | None]) -> dict[str, Tensor]:
        """Compute the logits of every method with one pass of the source: (B, 3, S, S) -> (B, C) by name.

        Args:
            images: uint8, on any device.
            methods: None stands for the source's own head.

        Raises:
            SnowError: the pictures do not have the source's size.
        """
        batch = self._batch(images)
        moved = {name: self._on_device(method) for name, method in methods.items()}
        outputs: dict[str, list[Tensor] | Exception] = {name: [] for name in methods}
        for chunk in self._observe(list(moved.values()), batch):
            self._answer(chunk, 0, moved, dict.fromkeys(methods, (0, len(chunk.images))), outputs)
            del chunk
        return {name: _joined(parts) for name, parts in outputs.items()}

    def _answer(
        self,
        chunk: Features,
        first: int,
        methods: Mapping[str, Method | None],
        ranges: Mapping[str, tuple[int, int]],
        outputs: dict[str, list[Tensor] | Exception],
    ) -> None:
        """Compute the logits of a chunk of pictures, and append them to the outputs of each task.

        Args:
            first: position of the chunk in the batch.
            ranges: first and last picture of each task in the batch.
        """
        readers = [method for method in methods.values() if method is not None]
        for method in readers:
            if method not in self._moment_taps:  # finding them takes as long as a small layer
                self._moment_taps[method] = moments_read([method], self.engine.shares_moments)
        taps = frozenset[str]().union(*{self._moment_taps[method] for method in readers})
        chunk = replace(chunk, moments=self.engine.moments(chunk, taps))
        by_rows: dict[tuple[int, int], list[str]] = {}
        for name in methods:
            start, stop = (min(max(place - first, 0), len(chunk.images)) for place in ranges[name])
            if start < stop:
                by_rows.setdefault((start, stop), []).append(name)
        for rows, names in by_rows.items():
            features = chunk.rows(*rows)
            asked = {name: method for name in names if (method := methods[name]) is not None}
            answers = dict(zip(asked, self.engine.answers(list(asked.values()), features), strict=True))
            for name in names:
                answer, parts = answers.get(name, features.logits), outputs[name]
                if isinstance(answer, Exception):
                    outputs[name] = answer
                elif isinstance(parts, list):
                    parts.append(answer)

    def _observe(self, methods: Sequence[Method | None], batch: Tensor) -> Iterator[Features]:
        """Run the source over a batch in chunks: (B, 3, S, S) -> whole maps of some pictures at a time."""
        return observe_chunks(self.engine.prepared_source(), methods, batch, CHUNK_SIZE.get(self.engine.device.type))

    def _batch(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Stack pictures on the source's device: B of (3, S, S) -> (B, 3, S, S)."""
        batch = images if isinstance(images, Tensor) else torch.stack(list(images))
        size = self.engine.source.preprocessing.image_size
        if batch.shape[1:] != (3, size, size):
            raise SnowError(f"the source takes pictures of shape (3, {size}, {size}), not {tuple(batch.shape[1:])}")
        return batch.to(self.engine.device)

    def _on_device(self, method: Method | None) -> Method | None:
        """Move a method to the source's device. One that is there is not walked: that takes a sixth of its time."""
        weight = None if method is None else next(method.parameters(), None)
        if method is None or (weight is not None and weight.device == self.engine.device):
            return method
        return method.to(self.engine.device)


def _joined(parts: list[Tensor] | Exception) -> Tensor:
    """Join the logits of all chunks: (b, C) each -> (B, C). Raises the exception in their place."""
    if isinstance(parts, Exception):
        raise parts
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _decode(
    name: str,
    task: Request,
    parts: list[Tensor] | Exception,
    rows: tuple[int, int],
    seen: Judged | None,
) -> Sequence[Prediction | Failure]:
    """Decode the logits of one task: (b, C) per chunk -> B predictions, with failures in the place of NaN.

    An exception becomes the failure of this task, and no other task fails with it.

    Args:
        rows: first and last picture of the task in the batch.
        seen: of the batch, if any task says how familiar pictures are.
    """
    start, stop = rows
    try:
        logits = _joined(parts)
        predictions = task.labels.predictions(name, logits)
        sound = logits.amax(1).isfinite().tolist()  # the largest logit is NaN or infinite where the softmax is NaN
        if seen is not None and task.familiarity is not None and task.judges:
            predictions = _judged(predictions, task.familiarity, seen, range(start, stop), logits)
    except Exception as error:
        log.exception("task %s failed", name)
        return [Failure(name, f"task {name} failed: {type(error).__name__}")] * (stop - start)
    if all(sound):
        return predictions
    failure = Failure(name, f"task {name} gives NaN")
    return [entry if valid else failure for entry, valid in zip(predictions, sound, strict=True)]


def _judged(
    predictions: Sequence[Prediction], familiarity: Familiarity, seen: Judged, pictures: range, logits: Tensor
) -> Sequence[Prediction]:
    """Add how familiar some pictures of a batch are, and their traits if these are asked for."""
    place = slice(pictures.start, pictures.stop)
    located = familiarity.locate(seen.final[place])
    familiar = familiarity.share(located.scores)
    known = familiar if familiarity.confidence is None else familiarity.confidence.known(familiar, logits.cpu())
    judged = [replace(entry, known=value) for entry, value in zip(predictions, known.tolist(), strict=True)]
    reference = familiarity.reference
    if reference is None or seen.appearance is None:
        return judged
    looks = seen.appearance[place].unbind()
    rows = zip(located.nearest.tolist(), located.z.unbind(), looks, familiar.tolist(), strict=True)
    return [replace(entry, traits=Traits(reference, *row)) for entry, row in zip(judged, rows, strict=True)]


def group_by_task(requests: Sequence[Collection[str]]) -> tuple[list[int], dict[str, tuple[int, int]]]:
    """Order pictures so that those that ask for the same tasks are neighbours.

    A task's range goes from the first picture that asks for it to the last, so that its method gets views of the
    feature maps: copies would cost as much as a delta. Pictures inside the range that do not ask for the task are
    computed and dropped.

    Args:
        requests: the names of the tasks, for each picture.

    Returns:
        The pictures' indices in their new order, and (start, stop) in that order by task.
    """
    order = sorted(range(len(requests)), key=lambda picture: sorted(requests[picture]))
    ranges: dict[str, tuple[int, int]] = {}
    for position, picture in enumerate(order):
        for name in requests[picture]:
            ranges[name] = (ranges[name][0] if name in ranges else position, position + 1)
    return order, ranges


def tasks_per_picture(tasks: Collection[str] | Sequence[Collection[str]], count: int) -> list[list[str]]:
    """List the names of tasks for each of `count` pictures.

    Args:
        tasks: one list of names for all pictures, or one list for each picture.

    Raises:
        SnowError: there are more or fewer lists than pictures.
    """
    names = [entry for entry in tasks if isinstance(entry, str)]
    if len(names) == len(tasks):
        return [names] * count
    if names or len(tasks) != count:
        raise SnowError(f"{count} pictures want {count} lists of tasks, one for each, or one list of names for all")
    return [list(entry) for entry in tasks]
