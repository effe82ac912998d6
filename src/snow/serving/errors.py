"""Refusals: every error code of the service with its HTTP status. Codes are stable, messages are not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

CODES: dict[str, tuple[int, str]] = {
    "malformed": (400, "the body does not match its Content-Type"),
    "empty": (400, "no picture, or an empty one"),
    "unauthorized": (401, "the token is missing or wrong"),
    "management_off": (403, "the service was started without a token, so tasks cannot be changed over HTTP"),
    "cross_site": (403, "tasks cannot be changed by web pages of other sites"),
    "read_only": (403, "the folder of the hub cannot be written"),
    "not_found": (404, "there is nothing at this path"),
    "unknown_task": (404, "the hub has no task of this name"),
    "method_not_allowed": (405, "the path does not support this method"),
    "no_tasks": (409, "the hub has no task that can answer"),
    "too_many_bytes": (413, "the body is larger than the service allows"),
    "too_many_pictures": (413, "more pictures in one request than the service allows"),
    "too_many_pixels": (413, "a picture has more pixels than the service decodes"),
    "too_complex": (413, "decoding a picture takes more time or memory than the service allows"),
    "wrong_type": (415, "the path does not support this Content-Type"),
    "wrong_host": (421, "the service does not answer for the host that the request names"),
    "invalid": (422, "a parameter has an invalid value"),
    "not_a_picture": (422, "not a JPEG, PNG, WebP, BMP, GIF or TIFF picture"),
    "truncated": (422, "the picture ends too early"),
    "broken_picture": (422, "the picture cannot be decoded"),
    "bad_task": (422, "the upload is not a task, or not one of this source"),
    "rate_limited": (429, "more requests from this address than the service allows"),
    "disconnected": (499, "the client closed the connection; nobody receives this"),
    "internal": (500, "an error in the service; see its log"),
    "queue_full": (503, "too many pictures are waiting: try again after Retry-After seconds"),
    "task_broken": (503, "the task exists but cannot answer"),
    "stopping": (503, "the service is shutting down"),
    "unavailable": (503, "no replica can answer at the moment"),
    "deadline": (504, "no answer within the deadline of the request"),
    "disk_full": (507, "no space left for the upload"),
}
"""Code -> HTTP status and meaning."""


class RefusedError(Exception):
    """A request that the service refuses.

    Args:
        code: one of `CODES`.
        picture: index of the request's picture that is meant, from 0.
        retry_after: seconds after which a client should try again.
    """

    def __init__(self, code: str, message: str, picture: int | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.picture, self.retry_after = code, message, picture, retry_after
        self.status = CODES[code][0]

    @property
    def body(self) -> dict[str, Any]:
        """The response's body as JSON values."""
        picture = {} if self.picture is None else {"picture": self.picture}
        return {"error": {"code": self.code, "message": self.message, **picture}}

    @property
    def headers(self) -> dict[str, str]:
        retry = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return retry | ({"WWW-Authenticate": "Bearer"} if self.code == "unauthorized" else {})


MAX_PRINTED = 120


def printable(text: str) -> str:
    """Quote text that a client sent, for a log or a message: one line without control characters, not too long."""
    return ascii(text if len(text) <= MAX_PRINTED else f"{text[:MAX_PRINTED]}...")


def without_paths(message: str, *folders: Path) -> str:
    """Remove the paths of these folders from a message; names of files in them stay."""
    for folder in folders:
        message = re.sub(rf"{re.escape(str(folder))}(?:/(?:[^\s/]+/)*|(?=\W|$))", "", message)
    return " ".join(message.split())
