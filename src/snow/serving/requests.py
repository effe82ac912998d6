"""Requests for predictions: where an uploaded picture, and every other parameter, is read and checked.

`read_predict_request` takes a form, a JSON body or a bare picture, and reads no more bytes than the limits allow.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from snow.serving.errors import RefusedError, printable
from snow.serving.fairness import Holding
from snow.serving.forms import form_parts
from snow.serving.limits import Limits
from snow.serving.streams import content_type, read_body


@dataclass(frozen=True)
class Picture:
    """An uploaded picture file; `name` is the file name that the client gives it."""

    content: bytes | memoryview
    name: str | None = None


DEFAULT_TOP_K = 5
MAX_TOP_K = 1000

MAX_FORM_FIELDS = 16
"""Parts of a form that are not files."""

MAX_NAMES = 1000
"""Names of tasks in one request."""
MAX_NAME = 200
"""Characters of a name; that of a task is shorter."""

MAX_MARKS = MAX_NAMES + 100
"""Commas and other punctuation of a JSON body, beside what its pictures need."""

BLANKS = (b" ", b"\t", b"\r", b"\n", b"\\")
"""What base64 may be broken into lines by. Of lines of 76 characters in JSON, escapes are less than a thirtieth."""

Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]

TopK = Annotated[int, Field(ge=1, le=MAX_TOP_K)]


class JsonBody(BaseModel):
    """A request for predictions as JSON."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[Base64], Field(min_length=1, description="each a picture file in base64")]
    tasks: Annotated[list[str], Field(max_length=MAX_NAMES, description="names of tasks; by default all")] = []
    top_k: Annotated[TopK | None, Field(strict=True, description="number of classes to list for each task")] = None


class FormFields(BaseModel):
    """The fields that a form may have beside its files."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[str] = []
    top_k: TopK | None = None


@dataclass(frozen=True)
class PredictRequest:
    """Pictures, and the names of the tasks to ask about each; `tasks` is empty for all tasks."""

    pictures: tuple[Picture, ...]
    tasks: tuple[str, ...] = ()
    top_k: int = DEFAULT_TOP_K


async def read_predict_request(
    request: Request, limits: Limits, memory: Holding, parser: Executor | None = None
) -> PredictRequest:
    """Read and check a request.

    Args:
        memory: takes the bytes of the body.
        parser: runs what takes time in proportion to the body, off the event loop.

    Raises:
        RefusedError: it is too large, malformed, has no picture, or another type.
    """
    kind = content_type(request)
    is_picture = kind in ("", "application/octet-stream") or kind.startswith("image/")
    if not is_picture and kind not in ("multipart/form-data", "application/json"):
        choices = "multipart/form-data, application/json, or a picture as image/*"
        raise RefusedError("wrong_type", f"{printable(kind)}: send {choices}")
    body = await read_body(request, limits.max_bytes, memory)
    if is_picture:
        return _checked(PredictRequest((Picture(memoryview(body)),)), limits)
    parse = partial(_from_json, body, limits)
    if kind == "multipart/form-data":
        parse = partial(_from_form, body, request.headers["content-type"], limits)
    return _checked(await asyncio.get_running_loop().run_in_executor(parser, parse), limits)


def _checked(request: PredictRequest, limits: Limits) -> PredictRequest:
    """Check the pictures, and list each task once. Raises RefusedError: there is no picture, or too many."""
    if not request.pictures:
        raise RefusedError("empty", "the request has no picture")
    if len(request.pictures) > limits.max_pictures:
        raise RefusedError("too_many_pictures", f"{len(request.pictures)} pictures are more than {limits.max_pictures}")
    for number, picture in enumerate(request.pictures):
        if not len(picture.content):
            raise RefusedError("empty", f"picture {number} has no content", number)
    return replace(request, tasks=split_names(request.tasks))


def split_names(values: Sequence[str]) -> tuple[str, ...]:
    """Split comma-separated names, and list each name once. Raises RefusedError: there are too many, or one is long."""
    names: dict[str, None] = {}
    for value in values:
        for name in value.split(",", MAX_NAMES + 1):
            name = name.strip()
            if len(name) > MAX_NAME:
                raise RefusedError("invalid", f"tasks: {printable(name)} is longer than {MAX_NAME} characters")
            if name:
                names[name] = None
        if len(names) > MAX_NAMES:
            raise RefusedError("invalid", f"tasks: more than {MAX_NAMES} names")
    return tuple(names)


def first_error(error: ValidationError | Any) -> str:
    """Describe the first of pydantic's errors in one line."""
    details = error.errors()[0]
    place = ".".join(map(str, details["loc"])) or "body"
    return f"{place if place.isidentifier() else printable(place)}: {details['msg']}"


def _from_form(body: bytearray, content_type_header: str, limits: Limits) -> PredictRequest:
    values: dict[str, Any] = {}
    pictures: list[Picture] = []
    for part in form_parts(body, content_type_header, limits.max_pictures + MAX_FORM_FIELDS):
        if part.filename is not None:
            pictures.append(Picture(part.content, part.filename))
        elif part.name == "tasks":
            values.setdefault("tasks", []).append(part.text)
        else:
            values[part.name] = part.text
    try:
        fields = FormFields.model_validate(values)
    except ValidationError as error:
        raise RefusedError("invalid", first_error(error)) from None
    return PredictRequest(tuple(pictures), tuple(fields.tasks), fields.top_k or DEFAULT_TOP_K)


def _from_json(body: bytearray, limits: Limits) -> PredictRequest:
    _check_marks(body, limits.max_pictures)
    try:
        fields = JsonBody.model_validate_json(body)
    except ValidationError as error:
        code = "malformed" if error.errors(include_input=False)[0]["type"] == "json_invalid" else "invalid"
        raise RefusedError(code, first_error(error)) from None
    pictures = tuple(Picture(_decode_base64(text, number)) for number, text in enumerate(fields.images))
    return PredictRequest(pictures, tuple(fields.tasks), fields.top_k or DEFAULT_TOP_K)


def _check_marks(body: bytearray, max_pictures: int) -> None:
    """Refuse JSON with so many values that parsing it takes seconds, during which no other thread runs.

    Counting is a search in memory. A body with base64 and names has few marks in proportion to its bytes.
    """
    if body.count(b",") > 2 * max_pictures + MAX_MARKS or body.count(b'"') > 2 * max_pictures + 2 * MAX_MARKS:
        raise RefusedError("too_many_pictures", "the body has more values than pictures and tasks can need")
    if sum(map(body.count, BLANKS)) > MAX_MARKS + len(body) // 16:
        raise RefusedError("malformed", "more than a sixteenth of the body are blanks or escapes")
    if any(body.count(mark) > MAX_MARKS for mark in (b"[", b"{", b":")):
        raise RefusedError("malformed", "the body is not a request for predictions")


def _decode_base64(text: str, number: int) -> bytes:
    """Decode base64, which may come as a `data:` URL, and in lines."""
    try:
        content = text.partition(",")[2] if text.startswith("data:") else text
        return base64.b64decode(content.encode().translate(None, b" \t\r\n"), validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError("malformed", f"picture {number} is not base64", number) from None
