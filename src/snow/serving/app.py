"""The application: puts the routes of a service together, with its page, metrics and health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from snow import __version__
from snow.serving import predict_routes, schemas, task_routes
from snow.serving.access import HostCheck, TokenGuard
from snow.serving.details import describe_source
from snow.serving.errors import RefusedError
from snow.serving.facts import encode_json
from snow.serving.fairness import FairBudget
from snow.serving.limits import Describer, RateLimiter
from snow.serving.memory import release_memory
from snow.serving.middleware import BoundedResponses, RequestMetrics, handle_refusals
from snow.serving.schemas import refusals
from snow.serving.service import Service
from snow.serving.spool import Spool
from snow.serving.turns import FairTurns

PAGE = Path(str(files("snow.serving"))) / "page"

PARSERS = 2
"""Threads that parse bodies. Each may hold copies of one body, beside `Limits.max_bodies`."""

router = APIRouter()


def create_app(
    service: Service,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """Create the ASGI application of a service, which it starts and stops.

    Args:
        token: what a request must carry to change tasks; with None, tasks cannot be changed.
        hosts: names that requests may be for, beside those of this machine; None for any.
        cors_origins: origins of web pages that may ask for predictions, such as `https://example.org`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.spool = Spool()
        try:
            await service.start()
            trimming = asyncio.create_task(release_memory(app.state.bodies))
            try:
                yield
            finally:
                trimming.cancel()
                await service.stop()
        finally:
            app.state.spool.close()

    app = FastAPI(
        title="SNOW",
        version=__version__,
        description="One frozen CNN answers any number of image-classification tasks.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        responses=refusals("wrong_host"),
    )
    app.state.service, app.state.token_guard = service, TokenGuard(token)
    app.state.bodies = FairBudget(service.limits.max_bodies)
    app.state.parser = ThreadPoolExecutor(PARSERS, "snow-parsing")
    app.state.describer = Describer(ThreadPoolExecutor(1, "snow-describing"))
    app.state.rate_limiter = RateLimiter(service.limits.rate, service.limits.burst)
    app.state.source = encode_json(describe_source(service.hub.source))
    app.state.uploads = asyncio.Semaphore(task_routes.MAX_UPLOADS)
    handle_refusals(app, service.metrics)
    _add_middleware(app, service, hosts, cors_origins)
    for routes in (predict_routes.router, task_routes.router, router):
        app.include_router(routes)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    return app


def _add_middleware(app: FastAPI, service: Service, hosts: Collection[str] | None, cors_origins: Sequence[str]) -> None:
    """Add what every request passes through, the innermost first."""
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type"],
        )
    app.add_middleware(HostCheck, hosts=hosts)
    app.add_middleware(RequestMetrics, metrics=service.metrics)
    app.add_middleware(BoundedResponses, budget=app.state.bodies)
    app.add_middleware(FairTurns)


@router.get("/healthz", response_model=schemas.State, responses=refusals("internal"), summary="Is the process alive?")
async def health(request: Request) -> Response:
    stuck = request.app.state.service.stuck
    return JSONResponse({"status": "stuck" if stuck else "ok"}, 500 if stuck else 200)


@router.get("/readyz", response_model=schemas.State, responses=refusals("stopping"), summary="Does it take requests?")
async def readiness(request: Request) -> Response:
    if not request.app.state.service.ready:
        raise RefusedError("stopping", "the service takes no requests", retry_after=1)
    return JSONResponse({"status": "ready"})


@router.get("/metrics", response_class=Response, responses=refusals("queue_full"), summary="Metrics for Prometheus")
async def metrics(request: Request) -> Response:
    text = await request.app.state.describer.run("metrics", request.app.state.service.metrics.text)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    return FileResponse(PAGE / "index.html")
