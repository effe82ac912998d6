"""Everything that the service refuses: codes that stay, each with its status."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

CODES: dict[str, tuple[int, str]] = {
    "malformed": (400, "the body is not what its Content-Type says"),
    "empty": (400, "no picture, or one without content"),
    "unauthorized": (401, "the token is missing or wrong"),
    "management_off": (403, "the service was started without a token: tasks are not changed over HTTP"),
    "not_found": (404, "there is nothing at this path"),
    "unknown_task": (404, "the hub has no task of this name"),
    "method_not_allowed": (405, "the path does not take this method"),
    "no_tasks": (409, "the hub has no task that can answer"),
    "too_many_bytes": (413, "the body is larger than the service takes"),
    "too_many_pictures": (413, "more pictures in one request than the service takes"),
    "too_many_pixels": (413, "a picture has more pixels than the service decodes"),
    "wrong_type": (415, "a Content-Type that the path does not take"),
    "invalid": (422, "a parameter has an impossible value"),
    "not_a_picture": (422, "not a JPEG, PNG, WebP, BMP, GIF or TIFF picture"),
    "truncated": (422, "the picture ends too early"),
    "broken_picture": (422, "the picture cannot be decoded"),
    "bad_task": (422, "the upload is not a task, or not one of this source"),
    "rate_limited": (429, "more requests from this address than the service takes"),
    "internal": (500, "a fault of the service; its log has more"),
    "queue_full": (503, "too much is waiting already: come back after Retry-After seconds"),
    "task_broken": (503, "the task is there and cannot answer"),
    "stopping": (503, "the service is shutting down"),
    "unavailable": (503, "no replica can answer at the moment"),
    "deadline": (504, "no answer within the time that the request has"),
    "disk_full": (507, "no room for the upload"),
}
"""Code -> HTTP status, and what it means."""


class RefusedError(Exception):
    """One of `CODES`.

    Args:
        picture: which of the request's pictures, from 0.
        retry_after: seconds after which it is worth another try.
    """

    def __init__(self, code: str, message: str, picture: int | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.picture, self.retry_after = code, message, picture, retry_after
        self.status = CODES[code][0]

    @property
    def body(self) -> dict[str, Any]:
        """As JSON values."""
        where = {} if self.picture is None else {"picture": self.picture}
        return {"error": {"code": self.code, "message": self.message, **where}}

    @property
    def headers(self) -> dict[str, str]:
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return found | ({"WWW-Authenticate": "Bearer"} if self.code == "unauthorized" else {})


def without_paths(message: str, *folders: Path) -> str:
    """Names of files in these folders stay, where they are on this machine does not."""
    for folder in folders:
        message = re.sub(rf"{re.escape(str(folder))}(?:/(?:[^\s/]+/)*|(?=\W|$))", "", message)
    return " ".join(message.split())
