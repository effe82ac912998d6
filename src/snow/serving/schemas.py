"""Schemas of requests and responses, for the OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from snow.serving.errors import CODES
from snow.serving.requests import MAX_TOP_K, JsonBody


class RefusalDetail(BaseModel):
    code: str = Field(description="stable; see docs/serving.md", json_schema_extra={"enum": list(CODES)})
    message: str
    picture: int | None = Field(None, description="index of the request's picture that is meant, from 0")


class Refusal(BaseModel):
    """The body of every response that is not a success."""

    error: RefusalDetail


class ClassProbability(BaseModel):
    class_: str = Field(alias="class")
    probability: float


class Known(BaseModel):
    known: float | None = Field(
        None, description="how much the picture resembles those of training, 0 to 1; absent if the task cannot tell"
    )


class ClassPrediction(Known):
    kind: Literal["class"]
    class_: None = Field(None, alias="class", description="present, and null, if the picture is rejected as unknown")
    classes: list[ClassProbability] = Field(description="most likely first")


class TagProbability(BaseModel):
    tag: str
    probability: float
    on: bool = Field(description="whether the probability reaches the threshold of the tag")


class TagPrediction(Known):
    kind: Literal["multi"]
    tags: list[TagProbability] = Field(description="those that are on first, then the most likely")


class NumberPrediction(Known):
    kind: Literal["number"]
    value: float
    unit: str | None = Field(None, description="absent if the data has none")


class GradeProbability(BaseModel):
    grade: str
    probability: float


class GradePrediction(Known):
    kind: Literal["ordered"]
    grade: str | None
    grades: list[GradeProbability] = Field(description="all grades in their order")


class Failure(BaseModel):
    error: str = Field(description="why the task has no prediction for this picture")


class PicturePredictions(BaseModel):
    image: str | None = Field(description="file name of the picture, if the request gives one")
    tasks: dict[str, ClassPrediction | TagPrediction | NumberPrediction | GradePrediction | Failure] = Field(
        description="by task: its prediction, or why there is none"
    )


class Timing(BaseModel):
    """Milliseconds, and the number of pictures that shared the pass."""

    total: float
    decode: float
    queue: float
    engine: float
    batch: int


class PredictResponse(BaseModel):
    results: list[PicturePredictions] = Field(description="one for each picture, in order")
    timing: Timing


class TaskSummary(BaseModel):
    name: str
    method: str
    classes: int
    parameters: int
    bytes: int
    top1: float | None = Field(description="accuracy on the test pictures, of a task with classes or grades")
    kind: str = Field(description="what its labels are: class, multi, number or ordered")
    figures: dict[str, float] = Field(description="measured on the test pictures, the most important first")
    unit: str = Field("", description="of its numbers and their errors; left out where there is none")


class TaskList(BaseModel):
    tasks: list[TaskSummary]
    broken: dict[str, str] = Field(description="tasks that cannot answer, and why")
    source: dict[str, Any]
    managed: bool = Field(description="whether tasks can be changed over HTTP, with a token")


class TaskDetails(TaskSummary):
    labels: list[str]
    description: str = Field(description="kind and names or range of the labels, in a few words")
    metrics: dict[str, Any]
    history: list[dict[str, Any]] = Field(description="one entry for each epoch")
    training: dict[str, Any]
    subscribed: list[dict[str, Any]] = Field(description="by tap: the number of channels, and the selected ones")
    overlap: list[dict[str, Any]] = Field(description="with each other task: intersection over union, and by chance")


class Selection(BaseModel):
    steps: list[int]
    batches: int = Field(description="steps in an epoch")
    taps: list[dict[str, Any]] = Field(description="`rows`: bits in base64, a row of whole bytes for each step")


class State(BaseModel):
    status: str


def refusals(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of an operation: HTTP status -> schema and meaning."""
    responses: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, meaning = CODES[code]
        entry = responses.setdefault(status, {"model": Refusal, "description": ""})
        entry["description"] += f"{'; ' if entry['description'] else ''}`{code}`: {meaning}"
    return responses


def request_body(*schemas: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Describe the body of an operation: pairs of a content type and its schema."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in schemas}}}


_BINARY = {"type": "string", "format": "binary"}
_FILES: dict[str, Any] = {"type": "array", "items": _BINARY, "minItems": 1}
_PREDICT_FORM = {
    "type": "object",
    "required": ["files"],
    "additionalProperties": False,
    "properties": {
        "files": _FILES,
        "tasks": {"type": "string", "description": "comma-separated names"},
        "top_k": {"type": "integer", "minimum": 1, "maximum": MAX_TOP_K},
    },
}
_TASK_FORM = {"type": "object", "required": ["files"], "properties": {"files": _FILES}}

PREDICT_BODY = request_body(
    ("multipart/form-data", _PREDICT_FORM),
    ("application/json", JsonBody.model_json_schema()),
    *((kind, _BINARY) for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")),
)

TASK_BODY = request_body(
    ("multipart/form-data", _TASK_FORM),
    *((kind, _BINARY) for kind in ("application/zip", "application/x-tar", "application/gzip")),
)
