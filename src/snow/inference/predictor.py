"""The predictor: one pass of the source over a batch, then every task on the pictures that ask for it.

Everything that answers pictures goes through here: `Hub.predict`, the service, the check of an export, the benchmarks.
The way down is request -> features -> method -> prediction.

Shape letters: B pictures, S side of a picture in pixels, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from snow.errors import SnowError
from snow.inference.engine import Engine
from snow.inference.familiarity import Familiarity
from snow.inference.features import observe_channels
from snow.inference.prediction import Failure
from snow.kinds import LabelKind, Prediction
from snow.methods import Method
from snow.source import Features

log = logging.getLogger("snow.inference")

P = ParamSpec("P")
T = TypeVar("T")

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


class Predictor:
    """Answers pictures with one engine. Only one thread at a time may use it.

    Args:
        engine: runs the source and the methods.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @torch.no_grad()
    def run(
        self, images: Tensor | Sequence[Tensor], requests: Sequence[Mapping[str, Request | Failure]]
    ) -> list[dict[str, Prediction | Failure]]:
        """Predict with one pass of the source: B pictures -> B dicts of predictions by task.

        A task that fails (it raises, or gives NaN) gets a `Failure` and leaves the other tasks as they are.

        Args:
            images: B pictures of shape (3, S, S), uint8, on any device.
            requests: for each picture the tasks to ask, by name. A `Failure` is passed on as it is.

        Raises:
            SnowError: the pictures do not have the source's size.
        """
        order, ranges = group_by_task(requests)
        tasks = {name: task for asked in requests for name, task in asked.items() if isinstance(task, Request)}
        predictions: dict[str, Sequence[Prediction | Failure]] = {}
        if tasks:
            batch = self._batch([images[picture] for picture in order])
            methods = [self._on_device(task.method) for task in tasks.values()]
            judging = any(task.judges for task in tasks.values())
            readers = [*methods, *([None] if judging else [])]  # the last one reads all final features
            features = observe_channels(self.engine.prepared_source(), readers, batch, chunk_size=self._chunk_size)
            final = features[-1].final.float() if judging else None
            logits = [  # of all tasks before any is decoded: a GPU computes the next while this process decodes
                _attempt(name, self._answer, method, observed.rows(*ranges[name]))
                for name, method, observed in zip(tasks, methods, features[: len(methods)], strict=True)
            ]
            for (name, task), output in zip(tasks.items(), logits, strict=True):
                decoded = output if isinstance(output, Failure) else _attempt(name, _decode, name, task, output)
                start, stop = ranges[name]
                if final is not None and task.judges and not isinstance(decoded, Failure):
                    decoded = _attempt(name, _judge, task, decoded, final[start:stop])
                predictions[name] = [decoded] * (stop - start) if isinstance(decoded, Failure) else decoded
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
        moved = [self._on_device(method) for method in methods.values()]
        features = observe_channels(self.engine.prepared_source(), moved, batch, chunk_size=self._chunk_size)
        observed = zip(methods, moved, features, strict=True)
        return {name: self._answer(method, features) for name, method, features in observed}

    def _answer(self, method: Method | None, features: Features) -> Tensor:
        return features.logits if method is None else self.engine.answer(method, features)

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

    @property
    def _chunk_size(self) -> int | None:
        return CHUNK_SIZE.get(self.engine.device.type)


def _attempt(name: str, compute: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Failure:
    """Return what `compute` gives. An exception becomes the failure of this task, and no other task fails with it."""
    try:
        return compute(*args, **kwargs)
    except Exception as error:
        log.exception("task %s failed", name)
        return Failure(name, f"task {name} failed: {type(error).__name__}")


def _decode(name: str, task: Request, logits: Tensor) -> Sequence[Prediction | Failure]:
    """Decode the logits of one task: (B, C) -> B predictions, with failures in the place of NaN."""
    predictions = task.labels.predictions(name, logits)
    sound = logits.amax(1).isfinite().tolist()  # the largest logit is NaN or infinite just where the softmax is NaN
    failure = Failure(name, f"task {name} gives NaN")
    return (
        predictions
        if all(sound)
        else [entry if valid else failure for entry, valid in zip(predictions, sound, strict=True)]
    )


def _judge(task: Request, predictions: Sequence[Prediction | Failure], final: Tensor) -> Sequence[Prediction | Failure]:
    """Add to predictions how familiar their pictures are: B predictions, (B, D) -> B predictions."""
    assert task.familiarity is not None
    known = task.familiarity.known(final.cpu()).tolist()
    return [
        entry if isinstance(entry, Failure) else replace(entry, known=value)
        for entry, value in zip(predictions, known, strict=True)
    ]


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
