"""From options to a hub's source: what the hub has, unless the options say otherwise, and never against it."""

from __future__ import annotations

from pathlib import Path

import torch

from snow.cli.options import SourceOptions
from snow.errors import SnowError
from snow.hub import Hub
from snow.process.randomness import own_randomness
from snow.source import Source
from snow.source.architectures import EMBEDDED
from snow.source.source_file import read_source


def open_source(hub: Path, options: SourceOptions, seed: int) -> Source:
    """The source of the hub, or a new one if there is no hub yet. Nothing is written.

    Args:
        seed: of random weights.

    Raises:
        SnowError: a path that cannot be a hub, options that contradict the hub's source, a source that cannot be had.
    """
    if hub.exists() and not hub.is_dir():
        raise SnowError(f"hub {hub} is a file: a hub is a folder")
    if (hub / "source.json").exists():
        _refuse_contradiction(hub, options)
        return Hub.open(hub, taps=options.taps or None, without_taps=options.without_taps).source
    return new_source(options, seed)


def new_source(options: SourceOptions, seed: int) -> Source:
    """The source that the options name, by default the embedded one.

    Args:
        seed: of random weights.

    Raises:
        SnowError: a source that cannot be had.
    """
    if not options.pretrained and options.source in (None, "embedded"):
        raise SnowError("the embedded source brings its weights: name another --source for random ones")
    with own_randomness():
        torch.manual_seed(seed)
        return Source.open(
            options.source or "embedded",
            options.pretrained,
            options.weights,
            options.image_size,
            taps=options.taps or None,
            without_taps=options.without_taps,
            resize=options.resize,
        )


def _refuse_contradiction(hub: Path, options: SourceOptions) -> None:
    has = read_source(hub)
    size = has["preprocessing"]["image_size"]
    if options.image_size not in (None, size):
        raise SnowError(
            f"hub {hub} has pictures of {size} px, not {options.image_size}: leave --image-size out, or use another hub"
        )
    resize = has["preprocessing"].get("resize", "crop")
    if options.resize not in (None, resize):
        raise SnowError(
            f"hub {hub} has pictures resized by {resize}, not {options.resize}: leave --resize out, or use another hub"
        )
    if options.source is None and options.weights is None and options.pretrained:
        return
    architecture, weights = _identity(options, has["architecture"])
    if (architecture, weights) != (has["architecture"], has["weights"]):
        raise SnowError(
            f"hub {hub} has the source {has['architecture']} ({has['weights']}), not {architecture} ({weights}): "
            "leave --source, --weights and --no-pretrained out, or use another hub"
        )
    if options.weights is not None:
        given = Source.open(architecture, False, options.weights, size, resize=resize)
        if given.fingerprint != has["fingerprint"]:
            raise SnowError(
                f"hub {hub} has other weights than {options.weights}: fingerprint {has['fingerprint']}, not "
                f"{given.fingerprint}"
            )


def _identity(options: SourceOptions, default: str) -> tuple[str, str]:
    """Architecture and weights, as a source's description has them, that the options ask for."""
    if options.source == "embedded":
        return f"timm/{EMBEDDED}", "embedded"
    spec = options.source or default
    architecture = spec if "/" in spec else f"timm/{spec}"
    if options.weights is not None:
        return architecture, options.weights.name
    return architecture, "pretrained" if options.pretrained else "random"
