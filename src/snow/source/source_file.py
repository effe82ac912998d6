"""How a hub keeps its source: `source.json`, and `source.safetensors` where a name is not enough to open it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from snow.errors import SnowError
from snow.source.source import Source
from snow.store import read_json, whole_file, write_json

REOPENED = ("embedded", "pretrained")
"""Weights that a name is enough to open again; all others are stored in the hub."""

NEEDED = {"architecture": str, "weights": str, "fingerprint": str, "preprocessing": dict}
"""What `source.json` holds."""


def write_source(folder: Path, source: Source) -> None:
    """Writes the description last: a folder with one has all of its source."""
    if source.weights not in REOPENED:
        tensors = {name: value.contiguous() for name, value in source.cnn.state_dict().items()}
        with whole_file(folder / "source.safetensors") as file:
            save_file(tensors, file)
    with whole_file(folder / "source.json") as file:
        write_json(file, source.description())


def read_source(folder: Path) -> dict[str, Any]:
    """The description of a hub's source, without opening it.

    Raises:
        SnowError: there is no hub at `folder`, or its `source.json` is damaged.
    """
    file = folder / "source.json"
    if not file.is_file():
        raise SnowError(f"{folder} is not a hub: it has no source.json")
    described = read_json(_inside(file))
    if not all(isinstance(described.get(key), kind) for key, kind in NEEDED.items()) or not isinstance(
        described["preprocessing"].get("image_size"), int
    ):
        raise SnowError(f"{file} is damaged: it should have {', '.join(NEEDED)}")
    return described


def open_source(folder: Path, **options: Any) -> Source:
    """The source of the hub at `folder`; `options` go to `Source` (`taps`, `without_taps`).

    Raises:
        SnowError: there is no hub, or its source is not what it was.
    """
    described = read_source(folder)
    weights = _inside(folder / "source.safetensors")
    size = described["preprocessing"]["image_size"]
    options["resize"] = described["preprocessing"].get("resize")
    if described["weights"] == "embedded":
        source = Source.embedded(size, **options)
    else:
        stored = weights if weights.exists() else None
        if stored is None and described["weights"] not in REOPENED:
            raise SnowError(f"hub {folder} is damaged: {weights} is missing")
        source = Source.open(described["architecture"], stored is None, stored, size, **options)
        source.weights = described["weights"]
    if source.fingerprint != described["fingerprint"]:
        raise SnowError(
            f"the source of hub {folder} is not what it was: fingerprint {source.fingerprint}, "
            f"recorded {described['fingerprint']}"
        )
    return source


def _inside(file: Path) -> Path:
    if file.is_symlink():
        raise SnowError(f"{file} is a link: a hub holds plain files")
    return file
