"""What the service says of itself is so: asked by a fuzzer that reads the description, and what the page on it says."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from snow.hub import Hub
from snow.serving.errors import CODES
from snow.serving.limits import Limits

DOCS = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")


def test_every_path_and_code_is_described_and_written_about(serve: Any, wait: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with serve() as served:
            described = (await served.client.get("/openapi.json")).json()
            for path, operations in described["paths"].items():
                for method, operation in operations.items():
                    name = path.replace("{name}", "NAME")
                    assert re.search(rf"`{method.upper()} {re.escape(name)}`", DOCS), (method, path)
                    assert operation["summary"]
            bodies = described["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
            assert {"multipart/form-data", "application/json", "image/jpeg"} <= bodies.keys()
            assert described["components"]["schemas"]["RefusalDetail"]["properties"]["code"]["enum"] == list(CODES)

    wait(work())
    assert all(f"| `{code}` | {status} | {meaning} |" in DOCS for code, (status, meaning) in CODES.items())
    assert all(f"`--{name.replace('_', '-')}`" in DOCS for name in Limits.__dataclass_fields__ if name != "decoders")


def test_a_fuzzer_that_reads_the_description_finds_no_fault(hub: Hub) -> None:
    """With the token, so that tasks are put and removed as well. Refusals have to be those that are described."""
    schemathesis = pytest.importorskip("schemathesis")
    from snow.serving.app import create_app
    from snow.serving.service import Service

    app = create_app(Service(hub, Limits(max_wait=0.0)), "a token")
    seen: set[tuple[str, int]] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = schemathesis.openapi.from_asgi("/openapi.json", app)
        for result in schema.get_all_operations():
            operation = result.ok()

            @hypothesis.settings(max_examples=12, suppress_health_check=list(hypothesis.HealthCheck))
            @hypothesis.given(case=operation.as_strategy())
            def ask(case: Any) -> None:
                case.headers = {**(case.headers or {}), "Authorization": "Bearer a token"}
                if case.query:
                    case.query.pop("deadline_ms", None)
                response = case.call()
                case.validate_response(
                    response,
                    checks=[
                        schemathesis.checks.not_a_server_error,
                        schemathesis.specs.openapi.checks.status_code_conformance,
                        schemathesis.specs.openapi.checks.content_type_conformance,
                        schemathesis.specs.openapi.checks.response_schema_conformance,
                    ],
                )
                seen.add((case.operation.label, response.status_code))

            ask()
    assert {label for label, _ in seen} == {operation.ok().label for operation in schema.get_all_operations()}
    assert {("GET /v1/tasks", 200), ("GET /v1/tasks/{name}", 404)} <= seen
