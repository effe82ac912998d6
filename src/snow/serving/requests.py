"""Requests for predictions: where an uploaded picture, and every other parameter, is read and checked.

`read_predict_request` takes a form, a JSON body or a bare picture, and reads no more bytes than the limits allow;
`decode_picture` turns one picture into a tensor, or refuses it.
"""

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
from snow.serving.streams import content_type, read_body

CODE_OF_REASON = {"broken": "broken_picture"}
"""`PictureError.reason` -> code of the refusal, where they differ."""


@dataclass(frozen=True)
class Picture:
    """An uploaded picture file; `name` is the file name that the client gives it."""

    content: bytes
    name: str | None = None


def decode_picture(picture: Picture, number: int, transform: Transform, max_pixels: int) -> Tensor:
    """Decode, resize and crop a picture: a file's bytes -> (3, S, S) uint8.

    Args:
        number: index of the picture in its request, from 0.

    Raises:
        RefusedError: it cannot be decoded, or is too large.
    """
    try:
        return transform(decode_file(BytesIO(picture.content), f"picture {number}", max_pixels))
    except PictureError as error:
        raise RefusedError(CODE_OF_REASON.get(error.reason, error.reason), str(error), number) from None


DEFAULT_TOP_K = 5
MAX_TOP_K = 1000

MAX_FORM_FIELDS = 16
"""Parts of a form that are not files."""

Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]

TopK = Annotated[int, Field(ge=1, le=MAX_TOP_K)]


class JsonBody(BaseModel):
    """A request for predictions as JSON."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[Base64], Field(min_length=1, description="each a picture file in base64")]
    tasks: Annotated[list[str], Field(description="names of tasks; by default all")] = []
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


async def read_predict_request(request: Request, limits: Limits) -> PredictRequest:
    """Read and check a request. Raises RefusedError: it is too large, malformed, has no picture, or another type."""
    kind = content_type(request)
    if kind == "multipart/form-data":
        return _checked(await _from_form(request, await read_body(request, limits.max_bytes)), limits)
    if kind == "application/json":
        body = await read_body(request, limits.max_bytes)
        return _checked(await asyncio.to_thread(_from_json, body), limits)
    if kind in ("", "application/octet-stream") or kind.startswith("image/"):
        return _checked(PredictRequest((Picture(await read_body(request, limits.max_bytes)),)), limits)
    raise RefusedError("wrong_type", f"{kind!r}: send multipart/form-data, application/json, or a picture as image/*")


def _checked(request: PredictRequest, limits: Limits) -> PredictRequest:
    """Check the pictures, and list each task once. Raises RefusedError: there is no picture, or too many."""
    if not request.pictures:
        raise RefusedError("empty", "the request has no picture")
    if len(request.pictures) > limits.max_pictures:
        raise RefusedError("too_many_pictures", f"{len(request.pictures)} pictures are more than {limits.max_pictures}")
    for number, picture in enumerate(request.pictures):
        if not picture.content:
            raise RefusedError("empty", f"picture {number} has no content", number)
    return replace(request, tasks=split_names(request.tasks))


def split_names(values: Sequence[str]) -> tuple[str, ...]:
    """Split comma-separated names, and list each name once."""
    names = (name.strip() for value in values for name in value.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def first_error(error: ValidationError | Any) -> str:
    """Describe the first of pydantic's errors in one line."""
    details = error.errors()[0]
    return f"{'.'.join(map(str, details['loc'])) or 'body'}: {details['msg']}"


async def _from_form(request: Request, body: bytes) -> PredictRequest:
    values: dict[str, Any] = {}
    pictures: list[Picture] = []
    async with form_parts(request, body) as parts:
        for name, value in parts:
            if isinstance(value, UploadFile):
                pictures.append(Picture(await value.read(), value.filename))
            elif name == "tasks":
                values.setdefault(name, []).append(value)
            else:
                values[name] = value
    try:
        fields = FormFields.model_validate(values)
    except ValidationError as error:
        raise RefusedError("invalid", first_error(error)) from None
    return PredictRequest(tuple(pictures), tuple(fields.tasks), fields.top_k or DEFAULT_TOP_K)


@asynccontextmanager
async def form_parts(request: Request, body: bytes) -> AsyncGenerator[list[tuple[str, str | UploadFile]]]:
    """Parse a form into its parts in order, with files in memory.

    Raises:
        RefusedError: it is malformed.
    """

    async def chunks() -> AsyncGenerator[bytes]:
        yield body

    parser = MultiPartParser(request.headers, chunks(), max_fields=MAX_FORM_FIELDS)
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


def _from_json(body: bytes) -> PredictRequest:
    try:
        fields = JsonBody.model_validate_json(body)
    except ValidationError as error:
        code = "malformed" if error.errors()[0]["type"] == "json_invalid" else "invalid"
        raise RefusedError(code, first_error(error)) from None
    pictures = tuple(Picture(_decode_base64(text, number)) for number, text in enumerate(fields.images))
    return PredictRequest(pictures, tuple(fields.tasks), fields.top_k or DEFAULT_TOP_K)


def _decode_base64(text: str, number: int) -> bytes:
    """Decode base64, which may come as a `data:` URL, and in lines."""
    try:
        content = text.partition(",")[2] if text.startswith("data:") else text
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError("malformed", f"picture {number} is not base64", number) from None
