"""`POST /v1/predict`: the deadline of a request, and its response."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from snow.serving import schemas
from snow.serving.fairness import Owner, client_at
from snow.serving.interruption import interruptible
from snow.serving.limits import limit_rate
from snow.serving.requests import MAX_NAMES, MAX_TOP_K, PredictRequest, read_predict_request, split_names
from snow.serving.responses import encode_response, off_loop
from snow.serving.schemas import refusals
from snow.serving.service import Service

PICTURE_CODES = ("not_a_picture", "truncated", "broken_picture", "invalid", "too_many_pixels", "too_complex")
BODY_CODES = ("malformed", "empty", "too_many_bytes", "too_many_pictures", "wrong_type")
BUSY_CODES = ("rate_limited", "queue_full", "stopping", "unavailable", "deadline")

MAX_DEADLINE_MS = 86_400_000

router = APIRouter(dependencies=[Depends(limit_rate)])


@router.post(
    "/v1/predict",
    response_model=schemas.PredictResponse,
    responses=refusals(*BODY_CODES, "unknown_task", "no_tasks", *PICTURE_CODES, *BUSY_CODES),
    openapi_extra=schemas.PREDICT_BODY,
    summary="Ask tasks about pictures",
)
async def predict(
    request: Request,
    tasks: Annotated[list[str] | None, Query(max_length=MAX_NAMES, description="names; by default all tasks")] = None,
    top_k: Annotated[int | None, Query(ge=1, le=MAX_TOP_K, description="classes to list for each task")] = None,
    reject: Annotated[
        float, Query(ge=0, lt=1, description="answer unknown below this share of a task's own pictures, such as 0.05")
    ] = 0.0,
    deadline_ms: Annotated[int | None, Query(ge=1, le=MAX_DEADLINE_MS, description="give up after this time")] = None,
) -> Response:
    """Pictures come as the files of a form, as the body itself, or in base64 as JSON; a form and JSON may hold `tasks`
    and `top_k` too. If one picture cannot be used the whole request is refused, and the error says which picture it
    is. A task that is broken or fails has an `error` in the place of its prediction, and the others answer."""
    started = time.perf_counter()
    service: Service = request.app.state.service
    limits, batcher = service.limits, service.batcher
    owner = Owner(client_at(request.client.host if request.client else ""))
    seconds = min(limits.deadline, deadline_ms / 1000 if deadline_ms else limits.deadline)
    async with interruptible(seconds) as interruption:
        evict = interruption.make_room
        with batcher.reserve(owner, evict) as places, request.app.state.bodies.hold(owner, evict) as memory:
            body = await read_predict_request(request, limits, memory, request.app.state.parser)
            async with interruption.watch_client(request.receive):
                places.extend(len(body.pictures))
                asked = PredictRequest(body.pictures, split_names(tasks or ()) or body.tasks, top_k or body.top_k)
                result = await service.predict(asked, owner)
            listed = asked.top_k * sum(map(len, result.pictures))
            body = await off_loop(listed, encode_response, asked, result, time.perf_counter() - started, reject)
    return Response(body, media_type="application/json")
