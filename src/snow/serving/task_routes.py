"""`/v1/tasks`: list, describe, add, replace and remove tasks."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi import Path as PathParameter
from starlette.requests import Request
from starlette.responses import Response

from snow.errors import SnowError
from snow.serving import schemas
from snow.serving.details import describe
from snow.serving.errors import RefusedError, printable
from snow.serving.facts import encode_json
from snow.serving.limits import limit_rate
from snow.serving.schemas import refusals
from snow.serving.service import Service
from snow.serving.streams import content_type, stream_body
from snow.serving.uploads import ARCHIVES, storage_refusal, unpack, unpack_form
from snow.store import check_name
from snow.store.store import NAME

MAX_UPLOADS = 4
"""Tasks that may be uploaded at the same time."""

UPLOAD_SECONDS = 300

UPLOAD_CODES = (
    *(
        "malformed",
        "unauthorized",
        "management_off",
        "cross_site",
        "read_only",
        "too_many_bytes",
        "wrong_type",
        "invalid",
        "bad_task",
    ),
    *("rate_limited", "queue_full", "deadline", "disk_full"),
)

TaskName = Annotated[str, PathParameter(json_schema_extra={"pattern": f"^{NAME.pattern}$"})]
"""Described by the pattern; `check_name` says what is wrong with another one, after the token was checked."""

router = APIRouter(prefix="/v1/tasks", dependencies=[Depends(limit_rate)])


@router.get("", response_model=schemas.TaskList, responses=refusals("rate_limited"), summary="List the tasks")
async def list_tasks(request: Request) -> Response:
    """The response has an ETag, which changes with the tasks: with `If-None-Match` nothing is sent until then."""
    state = request.app.state
    tasks, broken = state.service.tasks.encoded
    source, managed = state.source, encode_json(state.token_guard.enabled)
    body = b'{"tasks":%b,"broken":%b,"source":%b,"managed":%b}' % (tasks, broken, source, managed)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@router.get(
    "/{name}",
    response_model=schemas.TaskDetails,
    responses=refusals("unknown_task", "task_broken", "rate_limited", "queue_full"),
    summary="Describe a task",
)
async def show_task(request: Request, name: str) -> Response:
    service: Service = request.app.state.service
    service.require(name)
    tasks = service.tasks
    body = await request.app.state.describer.run(("task", name, id(tasks)), lambda: encode_json(describe(name, tasks)))
    return Response(body, media_type="application/json")


@router.get(
    "/{name}/choice",
    response_model=schemas.Selection,
    responses=refusals("unknown_task", "not_found", "task_broken", "rate_limited", "queue_full"),
    summary="Show which channels a task selected while it was trained",
)
async def show_selection(request: Request, name: str) -> Response:
    service: Service = request.app.state.service
    body = await request.app.state.describer.run(
        ("selection", name), lambda: encode_json(service.selection_history(name))
    )
    return Response(body, media_type="application/json")


@router.put(
    "/{name}",
    response_model=schemas.TaskSummary,
    responses={201: {"model": schemas.TaskSummary, "description": "the task is new"}, **refusals(*UPLOAD_CODES)},
    openapi_extra=schemas.TASK_BODY,
    summary="Add a task, or replace it",
)
async def put_task(request: Request, name: TaskName) -> Response:
    """A task is what `tasks/NAME/` of a hub holds: as one archive (ZIP, tar, gzipped tar), or as the files of a form.
    Requests that were accepted before are answered by the old task, later ones by the new one."""
    state = request.app.state
    service: Service = state.service
    await state.token_guard.authorise(request)
    _check(name)
    if state.uploads.locked():
        raise RefusedError("queue_full", "other tasks are being uploaded", retry_after=5)
    try:
        async with state.uploads, asyncio.timeout(UPLOAD_SECONDS):
            with state.spool.folder() as folder:
                await _receive(request, Path(folder), service.limits.max_upload)
                replaced = await service.add(name, Path(folder))
    except TimeoutError:
        raise RefusedError("deadline", f"not uploaded within {UPLOAD_SECONDS} s") from None
    except OSError as error:
        raise storage_refusal(error) or error from None
    service.require(name)
    summary = encode_json(service.tasks.described[name].summary)
    return Response(summary, 200 if replaced else 201, media_type="application/json")


@router.delete(
    "/{name}",
    status_code=204,
    responses=refusals(
        *("unauthorized", "management_off", "cross_site", "read_only", "unknown_task", "invalid", "rate_limited")
    ),
    summary="Remove a task",
)
async def delete_task(request: Request, name: TaskName) -> Response:
    await request.app.state.token_guard.authorise(request)
    _check(name)
    await request.app.state.service.remove(name)
    return Response(status_code=204)


async def _receive(request: Request, folder: Path, limit: int) -> None:
    """Write the files of an uploaded task into `folder`."""
    kind = content_type(request)
    if kind != "multipart/form-data" and kind not in ARCHIVES:
        choices = f"multipart/form-data, or one of {', '.join(ARCHIVES)}"
        raise RefusedError("wrong_type", f"{printable(kind)}: send {choices}")
    with tempfile.TemporaryFile(dir=folder) as body:
        async for chunk in stream_body(request, limit):
            body.write(chunk)
        if kind == "multipart/form-data":
            await asyncio.to_thread(unpack_form, body, request.headers["content-type"], folder, limit)
        else:
            await asyncio.to_thread(unpack, body, folder, limit)


def _check(name: str) -> None:
    try:
        check_name(name)
    except SnowError as error:
        raise RefusedError("invalid", str(error)) from None
