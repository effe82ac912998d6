"""Answers of every kind of label over HTTP, and pictures that are unknown to a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from snow.hub import Artifact, Hub
from snow.inference.familiarity import Familiarity
from snow.kinds import ClassKind, GradeKind, LabelKind, NumberKind, TagKind
from snow.methods import METHODS
from snow.source import Source

schemas = pytest.importorskip("snow.serving.schemas")

Wait = Callable[[Any], None]
KINDS: dict[str, LabelKind] = {
    "body": ClassKind(("round", "flat")),
    "tags": TagKind(("red", "dented", "old")),
    "year": NumberKind(1990.0, 10.0, 1960.0, 2020.0, "AD"),
    "wear": GradeKind(("new", "used", "worn")),
}


@pytest.fixture
def every_kind(hub: Hub, resnet: Source) -> Hub:
    torch.manual_seed(0)
    known = Familiarity.fit(torch.rand(60, resnet.num_features), torch.arange(60) % 3)
    for name, kind in KINDS.items():
        method = METHODS["fo"].build(resnet, kind.outputs).export_form()
        torch.nn.init.normal_(method.classifier.weight)
        description = resnet.description()
        hub.add(Artifact(name, kind.names, method, description, labels=kind, familiarity=known))
    return hub


def test_each_kind_has_its_fields_and_its_schema(
    serve: Any, every_kind: Hub, jpeg: Callable[..., bytes], wait: Wait
) -> None:
    async def work() -> None:
        async with serve() as served:
            response = await served.predict(jpeg(1))
            assert response.status_code == 200, response.text
            tasks = response.json()["results"][0]["tasks"]
            assert {name: tasks[name]["kind"] for name in KINDS} == {name: kind.name for name, kind in KINDS.items()}
            parsed = schemas.PredictResponse.model_validate(response.json()).results[0].tasks
            assert isinstance(parsed["tags"], schemas.TagPrediction)
            assert isinstance(parsed["year"], schemas.NumberPrediction)
            assert isinstance(parsed["wear"], schemas.GradePrediction)
            assert parsed["year"].unit == "AD"
            assert [entry.grade for entry in parsed["wear"].grades] == ["new", "used", "worn"]
            assert all(0 <= tasks[name]["known"] <= 1 for name in KINDS)
            assert "known" not in tasks["learned"], "it keeps no statistics"
            listed = (await served.client.get("/v1/tasks")).json()["tasks"]
            assert {entry["name"]: entry["kind"] for entry in listed}["year"] == "number"
            assert {entry["name"]: entry["unit"] for entry in listed if "unit" in entry} == {"year": "AD"}
            document = (await served.client.get("/openapi.json")).json()["components"]["schemas"]
            assert {"TagPrediction", "NumberPrediction", "GradePrediction"} <= document.keys()

    wait(work())


def test_what_is_unlike_training_is_rejected_on_request(
    serve: Any, every_kind: Hub, jpeg: Callable[..., bytes], wait: Wait
) -> None:
    async def work() -> None:
        async with serve() as served:
            plain = (await served.predict(jpeg(1))).json()["results"][0]["tasks"]["body"]
            assert "class" not in plain
            assert plain["known"] < 0.9
            rejected = (await served.predict(jpeg(1), reject=0.9)).json()["results"][0]["tasks"]
            assert rejected["body"]["class"] is None
            assert rejected["body"]["classes"] == plain["classes"]
            assert rejected["wear"]["grade"] is None
            refused = await served.predict(jpeg(1), reject=1.5)
            assert refused.status_code == 400 or refused.status_code == 422
            metrics = (await served.client.get("/metrics")).text
            assert 'snow_task_drift{task="body"}' in metrics

    wait(work())
