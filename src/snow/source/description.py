"""The description of a hub's source, `source.json`, read without importing torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snow.errors import DamagedError, NotFoundError
from snow.store import read_json

NEEDED = {"architecture": str, "weights": str, "fingerprint": str, "preprocessing": dict}
"""Keys of `source.json` and the types of their values."""


EMBEDDED = {
    "embedded": "tf_efficientnet_lite0",
    "embedded:lite1": "tf_efficientnet_lite1",
    "embedded:lite2": "tf_efficientnet_lite2",
}
"""Sources whose weights are packages of Python: name -> model of timm. The first comes with every installation."""

HUGGING_FACE = "hf:"
"""In front of the name of a model of transformers: a repository OWNER/NAME, or a folder."""

MAX_IMAGE_SIZE = 2**13
"""Largest side of a picture in pixels; a larger one cannot be meant."""


def is_embedded(spec: str) -> bool:
    """Whether a source's name says that its weights are a package of Python."""
    return spec.partition(":")[0] == "embedded"


def embedded_name(architecture: str) -> str | None:
    """Return the name of the source whose weights are a package and whose model is "timm/NAME"; None: there is none."""
    return next((name for name, model in EMBEDDED.items() if architecture == f"timm/{model}"), None)


def read_source(folder: Path) -> dict[str, Any]:
    """Read the description of a hub's source, without building it.

    Raises:
        SnowError: there is no hub at `folder`, or its `source.json` is damaged.
    """
    file = folder / "source.json"
    if not file.is_file():
        raise NotFoundError(f"{folder} is not a hub: {_why_not(folder)}")
    described = read_json(require_no_link(file))
    if not all(isinstance(described.get(key), kind) for key, kind in NEEDED.items()):
        raise DamagedError(f"{file} is damaged: it should have {', '.join(NEEDED)}")
    size = described["preprocessing"].get("image_size")
    if type(size) is not int or not 1 <= size <= MAX_IMAGE_SIZE:
        raise DamagedError(f"{file} is damaged: its image_size should be 1 to {MAX_IMAGE_SIZE}")
    return described


def _why_not(folder: Path) -> str:
    """Say what is at a path that is no hub, and where the hub may be."""
    if folder.is_file():
        return "it is a file, and a hub is a folder"
    parents = (parent for parent in folder.absolute().parents[:2] if (parent / "source.json").is_file())
    hub = next(parents, None)
    return "it has no source.json" if hub is None else f"it lies in the hub {hub}, which has the source.json"


def require_no_link(file: Path) -> Path:
    """Return `file`. Raises DamagedError: it is a link."""
    if file.is_symlink():
        raise DamagedError(f"{file} is a link: a hub holds plain files")
    return file
