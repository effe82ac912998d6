"""A hub with tasks whose answers are known, and a service over it in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from snow.hub import Artifact, Hub
from snow.methods import METHODS
from snow.source import Source

httpx = pytest.importorskip("httpx2")
pytest.importorskip("fastapi")

sys.path.insert(0, str(Path(__file__).parent))

TOKEN = "a token"
CLASSES = ("zero", "one", "two")


@dataclass
class Served:
    """`client` speaks HTTP to `service`, which runs on this event loop."""

    client: Any
    service: Any
    hub: Hub

    async def predict(self, content: bytes, **parameters: Any) -> Any:
        return await self.client.post("/v1/predict", content=content, params=parameters)


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def hub(resnet: Source, tmp_path: Path) -> Hub:
    """With one task, `learned`, that reads the maps of the source."""
    hub = Hub.create(tmp_path / "hub", resnet)
    torch.manual_seed(1)
    method = METHODS["snow"].build(resnet, 3).export_form()
    with torch.no_grad():
        for value in method.parameters():
            value.add_(0.1 * torch.randn_like(value))
    hub.add(Artifact("learned", CLASSES, method, resnet.description()))
    return hub


@pytest.fixture
def canary(resnet: Source) -> Callable[..., Artifact]:
    """`canary(name, answer)`: a task that finds class number `answer` in every picture."""

    def make(name: str, answer: int, classes: tuple[str, ...] = CLASSES) -> Artifact:
        method = METHODS["fo"].build(resnet, len(classes)).export_form()
        with torch.no_grad():
            for value in method.parameters():
                value.zero_()
                if value.ndim == 1:
                    value[answer] = 5.0
        return Artifact(name, classes, method, resnet.description())

    return make


@pytest.fixture
def files(canary: Callable[..., Artifact], tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """`files(answer)`: those of a canary."""

    def written(answer: int) -> dict[str, bytes]:
        folder = tmp_path / f"canary-{answer}"
        if not folder.exists():
            canary("learned-elsewhere", answer).save(folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    return written


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., bytes]:
    """`jpeg(seed)`: a picture file."""

    def drawn(seed: int = 0, kind: str = "JPEG", size: tuple[int, int] = (80, 60), **options: Any) -> bytes:
        pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
        file = io.BytesIO()
        Image.fromarray(pixels.byte().numpy()).save(file, kind, **options)
        return file.getvalue()

    return drawn


@pytest.fixture
def serve(hub: Hub) -> Serve:
    """`async with serve(queue=4) as served`: with these limits, and a token."""

    @asynccontextmanager
    async def started(token: str | None = TOKEN, **limits: Any) -> AsyncGenerator[Served]:
        from snow.serving.app import create_app
        from snow.serving.limits import Limits
        from snow.serving.service import Service

        service = Service(
            hub, Limits(**{"poll": 0.02, "max_wait": 1.0, "max_pictures": 4, "deadline": 600.0, **limits})
        )
        app = create_app(service, token)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            yield Served(client, service, hub)

    return started
