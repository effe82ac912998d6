"""The shapes of responses, for the description of the interface."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from snow.serving.errors import CODES
from snow.serving.requests import Encoded


class Fault(BaseModel):
    code: str = Field(description="stays the same; see docs/serving.md", json_schema_extra={"enum": list(CODES)})
    message: str
    picture: int | None = Field(None, description="which of the request's pictures, from 0")


class Problem(BaseModel):
    """What every response is that is no success."""

    error: Fault


class Guess(BaseModel):
    class_: str = Field(alias="class")
    probability: float


class PictureAnswers(BaseModel):
    image: str | None = Field(description="the name of the file, if the request gave one")
    tasks: dict[str, list[Guess]] = Field(description="by task: its classes, the most likely first")


class Timing(BaseModel):
    """Milliseconds, and with how many pictures the source's pass was shared."""

    total: float
    decode: float
    queue: float
    engine: float
    batch: int


class Answer(BaseModel):
    results: list[PictureAnswers] = Field(description="one for each picture, in order")
    left_out: dict[str, str] = Field(description="by task: why it did not answer although all were asked")
    timing: Timing


class Summary(BaseModel):
    name: str
    method: str
    classes: int
    parameters: int
    bytes: int
    top1: float | None = Field(description="accuracy on the test pictures")


class TaskList(BaseModel):
    tasks: list[Summary]
    broken: dict[str, str] = Field(description="tasks that cannot answer, and why")
    source: dict[str, Any]
    managed: bool = Field(description="whether tasks can be changed over HTTP, with a token")


class Details(Summary):
    labels: list[str]
    metrics: dict[str, Any]
    history: list[dict[str, Any]] = Field(description="one for each epoch")
    training: dict[str, Any]
    subscribed: list[dict[str, Any]] = Field(description="by tap: how many channels there are, and which are taken")
    overlap: list[dict[str, Any]] = Field(description="with each other task: intersection over union, and by chance")


class Choice(BaseModel):
    steps: list[int]
    batches: int = Field(description="steps in an epoch")
    taps: list[dict[str, Any]] = Field(description="`rows`: bits in base64, a row of whole bytes for each step")


class State(BaseModel):
    status: str


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """How an operation says that it may refuse with these codes."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, meaning = CODES[code]
        entry = found.setdefault(status, {"model": Problem, "description": ""})
        entry["description"] += f"{'; ' if entry['description'] else ''}`{code}`: {meaning}"
    return found


def content(*schemas: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """How an operation says what bodies it takes: types with their schemas."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in schemas}}}


_BINARY = {"type": "string", "format": "binary"}
_FILES: dict[str, Any] = {"type": "array", "items": _BINARY, "minItems": 1}
_FORM = {
    "type": "object",
    "required": ["files"],
    "additionalProperties": False,
    "properties": {
        "files": _FILES,
        "tasks": {"type": "string", "description": "names with commas between"},
        "top_k": {"type": "integer", "minimum": 1, "maximum": 1000},
    },
}

PICTURES = content(
    ("multipart/form-data", _FORM),
    ("application/json", Encoded.model_json_schema()),
    *((kind, _BINARY) for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")),
)

TASK = content(
    (
        "multipart/form-data",
        {"type": "object", "required": ["files"], "properties": {"files": _FILES}},
    ),
    *((kind, _BINARY) for kind in ("application/zip", "application/x-tar", "application/gzip")),
)
