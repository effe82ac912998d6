"""The source on disk: `source.json` of a hub, and `source.safetensors` unless the weights can be had by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from snow.errors import DamagedError, NotFoundError, SnowError
from snow.source.description import EMBEDDED, embedded_name, is_embedded, read_source, require_no_link
from snow.source.fingerprint import source_fingerprint
from snow.source.licence import origin_of
from snow.source.preprocessing import Preprocessing
from snow.source.source import Source
from snow.source.transformers_model import from_saved
from snow.source.weights import read_weights
from snow.store import atomic_file, write_json

REOPENED = ("embedded", "pretrained")
"""Origins of weights that can be had again by name. Those of any other origin, and of models of transformers,
are stored in the hub: a repository may change or go."""


def write_source(folder: Path, source: Source) -> None:
    """Write a source to the folder of a hub. The description comes last: where it exists, the source is complete."""
    if source.weights not in REOPENED or source.transformers is not None:
        tensors = {name: value.contiguous() for name, value in source.cnn.state_dict().items()}
        with atomic_file(folder / "source.safetensors") as file:
            save_file(tensors, file)
    with atomic_file(folder / "source.json") as file:
        origin = origin_of(source.cnn, source.architecture, source.weights)
        write_json(file, source.description() | ({"origin": origin} if origin else {}))


def open_source(folder: Path, **options: Any) -> Source:
    """Build the source of the hub at `folder`.

    Args:
        options: `taps` and `without_taps` of `Source`.

    Raises:
        SnowError: there is no hub, or its source has changed.
    """
    described = read_source(folder)
    weights = require_no_link(folder / "source.safetensors")
    size = described["preprocessing"]["image_size"]
    options["resize"] = described["preprocessing"].get("resize")
    if described["weights"] == "embedded":
        name = embedded_name(described["architecture"])
        if name is None:
            raise DamagedError(f"{folder / 'source.json'} is damaged: {described['architecture']} is not embedded")
        source = Source.embedded(size, name, **options)
    elif "transformers" in described:
        source = _open_transformers(described, weights, options)
    else:
        stored = weights if weights.exists() else None
        if stored is None and described["weights"] not in REOPENED:
            raise DamagedError(f"hub {folder} is damaged: {weights} is missing")
        source = Source.open(described["architecture"], stored is None, stored, size, **options)
        source.weights = described["weights"]
    _require_same(folder, source.fingerprint, described)
    if source.preprocessing.to_dict() != described["preprocessing"]:
        raise DamagedError(f"{folder / 'source.json'} is damaged: its preprocessing is not that of its fingerprint")
    return source


def _require_same(folder: Path, fingerprint: str, described: Mapping[str, Any]) -> None:
    """Raise DamagedError unless a source has the fingerprint that was recorded."""
    if fingerprint != described["fingerprint"]:
        raise DamagedError(
            f"the source of hub {folder} has changed: fingerprint {fingerprint}, recorded {described['fingerprint']}"
        )


def _open_transformers(described: Mapping[str, Any], weights: Path, options: Mapping[str, Any]) -> Source:
    """Build a model of transformers from what a hub keeps of it, after a look at whether that has changed.

    A configuration with a damaged number may take any memory.
    """
    spec, saved = described["architecture"], described["transformers"]
    if not weights.exists() or not isinstance(saved, Mapping):
        damaged = f"{weights} is missing" if isinstance(saved, Mapping) else "its source.json is no description"
        raise DamagedError(f"hub {weights.parent} is damaged: {damaged}")
    tensors = read_weights(weights)
    fingerprint = source_fingerprint(spec, saved, described["preprocessing"], tensors)
    _require_same(weights.parent, fingerprint, described)
    try:
        preprocessing = Preprocessing.from_dict(described["preprocessing"])
    except (TypeError, ValueError) as error:
        raise DamagedError(f"hub {weights.parent} is damaged: its preprocessing cannot be read: {error}") from error
    origin = described.get("origin")
    network = from_saved(saved, spec, tensors, preprocessing.image_size, origin if isinstance(origin, dict) else {})
    return Source(network, spec, described["weights"], preprocessing, **options)


def meta_source(spec: str, image_size: int | None, taps: Sequence[str] = (), without: Sequence[str] = ()) -> Source:
    """Build a source without weights, to read its shapes. The arguments are those of `Source.open` and `Source`.

    Raises:
        SnowError: as `Source.open`.
    """
    if is_embedded(spec) and spec not in EMBEDDED:
        raise NotFoundError(f"there is no source {spec}: there are {', '.join(EMBEDDED)}")
    name = EMBEDDED.get(spec, spec)
    options = {"taps": taps or None, "without_taps": without}
    try:
        with torch.device("meta"):
            return Source.open(name, False, None, image_size, **options)
    except (RuntimeError, SnowError):  # some CNNs read their tensors while they are built
        return Source.open(name, False, None, image_size, **options)
