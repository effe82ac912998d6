"""What a manager sends to the service, and what a task then answers."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import Any

MANAGER = {"Authorization": "Bearer a token"}


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w", kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


async def answer_of(served: Any, name: str, picture: bytes) -> str:
    """The class that a task finds, or its error, or the code of the refusal."""
    response = await served.predict(picture, tasks=name, top_k=1)
    if response.status_code != 200:
        return response.json()["error"]["code"]
    prediction = response.json()["results"][0]["tasks"][name]
    return prediction["error"] if "error" in prediction else prediction["classes"][0]["class"]
