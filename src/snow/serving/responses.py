"""Responses to requests for predictions: how large they may be, and their JSON, made beside the event loop.

Their size grows with pictures, tasks and classes: 64 pictures, 300 tasks and 1,000 classes are 19 million lines.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from snow.inference import Failure, Prediction, encode
from snow.serving.errors import RefusedError
from snow.serving.requests import PredictRequest

P = ParamSpec("P")
T = TypeVar("T")

MAX_CLASSES = 500_000
"""Classes in one response, over all pictures and tasks: about 30 MB of JSON."""

MAX_ON_LOOP = 256
"""Predictions, or classes, that are handled on the event loop. A thread for so few would take longer than they do."""

LEVELS = 4
"""Levels of a response above the predictions of one task: response, results, picture, tasks."""

Predictions = Mapping[str, Prediction | Failure]
"""Task -> its prediction for one picture."""


@dataclass(frozen=True)
class PredictResult:
    """The predictions for each picture of a request, and where the time went, in seconds."""

    pictures: Sequence[Predictions]
    decode_seconds: float
    queue_seconds: float
    engine_seconds: float
    batch_size: int


def require_bounded(request: PredictRequest, classes: Sequence[int]) -> None:
    """Check that the response is not too large.

    Args:
        classes: number of classes of each task that is asked.

    Raises:
        RefusedError: pictures x tasks x classes are more than `MAX_CLASSES`.
    """
    pictures = len(request.pictures)
    listed = pictures * sum(min(request.top_k, count) for count in classes)
    if listed > MAX_CLASSES:
        raise RefusedError(
            "invalid",
            f"{pictures} pictures, {len(classes)} tasks and top_k {request.top_k} give {listed:,} classes, more than "
            f"the {MAX_CLASSES:,} of a response: ask for fewer at once",
        )


async def off_loop(values: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that handles so many predictions or classes, in a thread unless they are few."""
    if values <= MAX_ON_LOOP:
        return call(*args, **kwargs)
    return await asyncio.to_thread(call, *args, **kwargs)


def encode_response(request: PredictRequest, result: PredictResult, seconds: float, reject: float) -> bytes:
    """Encode the response to a request that took so many seconds. `reject`: as `encode` takes it."""
    timing = {
        "total": seconds,
        "decode": result.decode_seconds,
        "queue": result.queue_seconds,
        "engine": result.engine_seconds,
    }
    response = {
        "results": [
            encode(picture.name, predictions, request.top_k, reject)
            for picture, predictions in zip(request.pictures, result.pictures, strict=True)
        ],
        "timing": {**{name: round(1000 * value, 3) for name, value in timing.items()}, "batch": result.batch_size},
    }
    return _dump(response, LEVELS).encode("utf-8", "backslashreplace")


def _dump(value: Any, levels: int) -> str:
    """Encode JSON, with a call for each value below some levels: no other thread runs during a call."""
    if levels and isinstance(value, dict):
        return f"{{{','.join(f'{_dump(key, 0)}:{_dump(item, levels - 1)}' for key, item in value.items())}}}"
    if levels and isinstance(value, list):
        return f"[{','.join(_dump(item, levels - 1) for item in value)}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
