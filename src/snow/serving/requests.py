"""What a request asks, in whichever form it comes: a form with files, one picture, or JSON with pictures in base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from torch import Tensor

from snow.data import Transform
from snow.data.decode import PictureError, decode_file
from snow.serving.errors import RefusedError
from snow.serving.limits import Limits
from snow.serving.streams import read_body

CODES = {"broken": "broken_picture"}
"""What `PictureError.reason` is called here, where that differs."""


@dataclass(frozen=True)
class Picture:
    """As it came; `name` is what the client calls it."""

    content: bytes
    name: str | None = None


def prepare(picture: Picture, number: int, transform: Transform, max_pixels: int) -> Tensor:
    """uint8 (3, S, S).

    Args:
        number: of the picture in its request, from 0.

    Raises:
        RefusedError: it cannot be decoded, or is too large.
    """
    try:
        return transform(decode_file(BytesIO(picture.content), f"picture {number}", max_pixels))
    except PictureError as error:
        raise RefusedError(CODES.get(error.reason, error.reason), str(error), number) from None


TOP = 5
MOST = 1000
"""Classes that an answer may name."""

FIELDS = 16
"""Parts of a form that are no files."""

Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]

TopK = Annotated[int, Field(ge=1, le=MOST)]


class Encoded(BaseModel):
    """A request as JSON."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[Base64], Field(min_length=1, description="each a picture file in base64")]
    tasks: Annotated[list[str], Field(description="names of tasks; by default all that can answer")] = []
    top_k: Annotated[TopK | None, Field(strict=True, description="classes that an answer names")] = None


class Fields(BaseModel):
    """What a form may say beside its files."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[str] = []
    top_k: TopK | None = None


@dataclass(frozen=True)
class Question:
    """Pictures, and what is asked about each; `tasks` is empty for all."""

    pictures: tuple[Picture, ...]
    tasks: tuple[str, ...] = ()
    top_k: int = TOP


async def read_question(request: Request, limits: Limits) -> Question:
    """Raises RefusedError: too large, malformed, without a picture, of another type."""
    kind = content_type(request)
    if kind == "multipart/form-data":
        return check(await _from_form(request, await read_body(request, limits.max_bytes)), limits)
    if kind == "application/json":
        body = await read_body(request, limits.max_bytes)
        return check(await asyncio.to_thread(_from_json, body), limits)
    if kind in ("", "application/octet-stream") or kind.startswith("image/"):
        return check(Question((Picture(await read_body(request, limits.max_bytes)),)), limits)
    raise RefusedError("wrong_type", f"{kind!r}: send multipart/form-data, application/json, or a picture as image/*")


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check(question: Question, limits: Limits) -> Question:
    """Each task once.

    Raises:
        RefusedError: no picture, or too many.
    """
    if not question.pictures:
        raise RefusedError("empty", "the request has no picture")
    if len(question.pictures) > limits.max_pictures:
        raise RefusedError(
            "too_many_pictures", f"{len(question.pictures)} pictures are more than {limits.max_pictures}"
        )
    for number, picture in enumerate(question.pictures):
        if not picture.content:
            raise RefusedError("empty", f"picture {number} has no content", number)
    return replace(question, tasks=split(question.tasks))


def split(tasks: Sequence[str]) -> tuple[str, ...]:
    """Names may come one by one, or with commas between."""
    names = (name.strip() for one in tasks for name in one.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def why(error: ValidationError | Any) -> str:
    """One line of what pydantic found."""
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc'])) or 'body'}: {found['msg']}"


async def _from_form(request: Request, body: bytes) -> Question:
    fields: dict[str, Any] = {}
    pictures: list[Picture] = []
    async with form_parts(request, body) as parts:
        for name, value in parts:
            if isinstance(value, UploadFile):
                pictures.append(Picture(await value.read(), value.filename))
            elif name == "tasks":
                fields.setdefault(name, []).append(value)
            else:
                fields[name] = value
    try:
        said = Fields.model_validate(fields)
    except ValidationError as error:
        raise RefusedError("invalid", why(error)) from None
    return Question(tuple(pictures), tuple(said.tasks), said.top_k or TOP)


@asynccontextmanager
async def form_parts(request: Request, body: bytes) -> AsyncGenerator[list[tuple[str, str | UploadFile]]]:
    """The parts of a form in order, with files in memory.

    Raises:
        RefusedError: it is malformed.
    """

    async def once() -> AsyncGenerator[bytes]:
        yield body

    parser = MultiPartParser(request.headers, once(), max_fields=FIELDS)
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, LookupError) as error:
        message = error.message if isinstance(error, MultiPartException) else error
        raise RefusedError("malformed", f"the form cannot be read: {message}") from None
    try:
        yield form.multi_items()
    finally:
        await form.close()


def _from_json(body: bytes) -> Question:
    try:
        said = Encoded.model_validate_json(body)
    except ValidationError as error:
        code = "malformed" if error.errors()[0]["type"] == "json_invalid" else "invalid"
        raise RefusedError(code, why(error)) from None
    pictures = tuple(Picture(_decoded(one, number)) for number, one in enumerate(said.images))
    return Question(pictures, tuple(said.tasks), said.top_k or TOP)


def _decoded(text: str, number: int) -> bytes:
    """Base64, which may come as a `data:` URL."""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError("malformed", f"picture {number} is no base64", number) from None
