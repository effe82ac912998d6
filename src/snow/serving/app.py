"""The HTTP side of a service."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from snow import __version__
from snow.errors import SnowError
from snow.serving import schemas as models
from snow.serving.details import describe, describe_source, summarise
from snow.serving.errors import RefusedError
from snow.serving.limits import Rate, authorise
from snow.serving.middleware import RequestMetrics, handle_refusals
from snow.serving.requests import MOST, Question, content_type, form_parts, read_question, split
from snow.serving.schemas import problems
from snow.serving.service import Reply, Service
from snow.serving.streams import read_body, stream_body
from snow.serving.uploads import ARCHIVES, full, keep, of_form, unpack
from snow.store import check_name

PAGE = Path(str(files("snow.serving"))) / "page"

UPLOADS = 4
"""Tasks that are uploaded at the same time."""

UPLOAD_SECONDS = 300

PICTURE_CODES = ("not_a_picture", "truncated", "broken_picture", "invalid", "too_many_pixels")
BODY_CODES = ("malformed", "empty", "too_many_bytes", "too_many_pictures", "wrong_type")
BUSY_CODES = ("rate_limited", "queue_full", "task_broken", "stopping", "unavailable", "deadline")


def create_app(service: Service, token: str | None = None) -> FastAPI:
    """An ASGI application around `service`, which it starts and stops.

    Args:
        token: what a request has to carry to change tasks; None: none may.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="SNOW",
        version=__version__,
        description="One frozen CNN answers any number of image-classification tasks.",
        lifespan=lifespan,
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    handle_refusals(app, service.metrics)
    app.add_middleware(RequestMetrics, metrics=service.metrics)
    limits = service.limits
    rate = Rate(limits.rate, limits.burst)
    described = describe_source(service.hub.source)
    uploads = asyncio.Semaphore(UPLOADS)

    def count(request: Request) -> None:
        rate.check(request.client.host if request.client else "")

    @app.post(
        "/v1/predict",
        response_model=models.Answer,
        responses=problems(*BODY_CODES, "unknown_task", "no_tasks", *PICTURE_CODES, *BUSY_CODES),
        openapi_extra=models.PICTURES,
        summary="Ask tasks about pictures",
    )
    async def predict(
        request: Request,
        tasks: Annotated[list[str] | None, Query(description="names; by default all that can answer")] = None,
        top_k: Annotated[int | None, Query(ge=1, le=MOST, description="classes that an answer names")] = None,
        deadline_ms: Annotated[int | None, Query(ge=1, description="give up after so long")] = None,
    ) -> Response:
        """Pictures come as files of a form, as the body itself, or in base64 as JSON; a form and JSON may say `tasks`
        and `top_k` too. With a picture that cannot be used the whole request is refused, and the error says which."""
        begun = time.perf_counter()
        count(request)
        seconds = min(limits.deadline, deadline_ms / 1000 if deadline_ms else limits.deadline)
        try:
            async with asyncio.timeout(seconds):
                with service.batcher.room() as room:
                    question = await read_question(request, limits)
                    room.grow(len(question.pictures))
                    asked = Question(question.pictures, split(tasks or ()) or question.tasks, top_k or question.top_k)
                    reply = await service.answer(asked)
        except TimeoutError:
            raise RefusedError("deadline", f"no answer within {seconds:g} s") from None
        return JSONResponse(_answer(asked, reply, time.perf_counter() - begun))

    @app.get("/v1/tasks", response_model=models.TaskList, responses=problems("rate_limited"), summary="List the tasks")
    async def list_tasks(request: Request) -> Response:
        count(request)
        catalog = service.catalog
        return JSONResponse(
            {
                "tasks": [summarise(artifact) for artifact in catalog.tasks.values()],
                "broken": dict(catalog.broken),
                "source": described,
                "managed": bool(token),
            }
        )

    @app.get(
        "/v1/tasks/{name}",
        response_model=models.Details,
        responses=problems("unknown_task", "task_broken", "rate_limited"),
        summary="Tell all about a task",
    )
    async def show_task(request: Request, name: str) -> Response:
        count(request)
        service.known(name)
        catalog = service.catalog
        return JSONResponse(await asyncio.to_thread(describe, catalog.tasks[name], catalog))

    @app.get(
        "/v1/tasks/{name}/choice",
        response_model=models.Choice,
        responses=problems("unknown_task", "not_found", "task_broken", "rate_limited"),
        summary="Tell which channels a task took while it learned",
    )
    async def show_choice(request: Request, name: str) -> Response:
        count(request)
        return JSONResponse(await service.choices(name))

    @app.put(
        "/v1/tasks/{name}",
        response_model=models.Summary,
        responses={
            201: {"model": models.Summary, "description": "it is new"},
            **problems(
                "malformed",
                "unauthorized",
                "management_off",
                "too_many_bytes",
                "wrong_type",
                "invalid",
                "bad_task",
                "rate_limited",
                "queue_full",
                "deadline",
                "disk_full",
            ),
        },
        openapi_extra=models.TASK,
        summary="Add a task, or replace it",
    )
    async def put_task(request: Request, name: str) -> Response:
        """A task is what `tasks/NAME/` of a hub holds: as one archive (ZIP, tar, gzipped tar), or as the files of a
        form. Requests that were accepted before are answered; those that come after have the new task."""
        count(request)
        authorise(request, token)
        _check(name)
        if uploads.locked():
            raise RefusedError("queue_full", "other tasks are being uploaded", retry_after=5)
        try:
            async with uploads, asyncio.timeout(UPLOAD_SECONDS):
                with tempfile.TemporaryDirectory(prefix="snow-upload-") as folder:
                    await _receive(request, Path(folder), limits.max_upload)
                    replaced = await service.keep(name, Path(folder))
        except TimeoutError:
            raise RefusedError("deadline", f"not uploaded within {UPLOAD_SECONDS} s") from None
        except OSError as error:
            raise full(error) or error from None
        service.known(name)
        return JSONResponse(summarise(service.catalog.tasks[name]), 200 if replaced else 201)

    @app.delete(
        "/v1/tasks/{name}",
        status_code=204,
        responses=problems("unauthorized", "management_off", "unknown_task", "invalid", "rate_limited"),
        summary="Remove a task",
    )
    async def delete_task(request: Request, name: str) -> Response:
        count(request)
        authorise(request, token)
        _check(name)
        await service.remove(name)
        return Response(status_code=204)

    @app.get("/healthz", response_model=models.State, responses=problems("internal"), summary="Is the process alive?")
    async def health() -> Response:
        return JSONResponse({"status": "stuck" if service.stuck else "ok"}, 500 if service.stuck else 200)

    @app.get("/readyz", response_model=models.State, responses=problems("stopping"), summary="Does it take requests?")
    async def readiness() -> Response:
        if not service.ready:
            raise RefusedError("stopping", "the service takes no requests", retry_after=1)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=Response, summary="What Prometheus reads")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    return app


async def _receive(request: Request, folder: Path, limit: int) -> None:
    """The files of an uploaded task, into `folder`."""
    kind = content_type(request)
    if kind == "multipart/form-data":
        async with form_parts(request, await read_body(request, limit)) as parts:
            await asyncio.to_thread(keep, of_form(parts), folder, limit)
    elif kind in ARCHIVES:
        with tempfile.TemporaryFile() as archive:
            async for chunk in stream_body(request, limit):
                archive.write(chunk)
            await asyncio.to_thread(unpack, archive, folder, limit)
    else:
        raise RefusedError("wrong_type", f"{kind!r}: send multipart/form-data, or one of {', '.join(ARCHIVES)}")


def _check(name: str) -> None:
    try:
        check_name(name)
    except SnowError as error:
        raise RefusedError("invalid", str(error)) from None


def _answer(question: Question, reply: Reply, seconds: float) -> dict[str, Any]:
    return {
        "results": [
            {
                "image": picture.name,
                "tasks": {
                    name: [{"class": one, "probability": value} for one, value in answer.top(question.top_k)]
                    for name, answer in answers.items()
                },
            }
            for picture, answers in zip(question.pictures, reply.pictures, strict=True)
        ],
        "left_out": reply.left_out,
        "timing": {
            "total": round(1000 * seconds, 3),
            "decode": round(1000 * reply.decoding, 3),
            "queue": round(1000 * reply.queued, 3),
            "engine": round(1000 * reply.passed, 3),
            "batch": reply.batch,
        },
    }
