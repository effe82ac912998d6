"""Open the source that the options name. Options must not contradict the source of an existing hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from snow.cli.options import SourceOptions
from snow.cli.output import note
from snow.data import Dataset
from snow.errors import SnowError
from snow.experiments.rank.rank import AUTO, Ranking, rank_sources
from snow.experiments.rank.table import choose_size
from snow.hub import Hub
from snow.process.randomness import fork_rng
from snow.source import Source
from snow.source.description import EMBEDDED, HUGGING_FACE, is_embedded, read_source
from snow.source.model_folder import full_name


def open_source(hub: Path, options: SourceOptions, seed: int) -> Source:
    """Open the source of a hub, or the one for a new hub. Nothing is written.

    Args:
        seed: of random weights.

    Raises:
        SnowError: `hub` is a file, options contradict the hub's source, or the source cannot be opened.
    """
    if hub.exists() and not hub.is_dir():
        raise SnowError(f"hub {hub} is a file: a hub is a folder")
    if (hub / "source.json").exists():
        _refuse_contradiction(hub, options)
        return Hub.open(hub, taps=options.taps or None, without_taps=options.without_taps).source
    return new_source(options, seed)


def new_source(options: SourceOptions, seed: int) -> Source:
    """Open the source that the options name, by default the embedded one.

    Args:
        seed: of random weights.

    Raises:
        SnowError: the source cannot be opened.
    """
    if not options.pretrained and is_embedded(options.source or "embedded"):
        raise SnowError("the embedded source always has its own weights: name another --source for random weights")
    with fork_rng():
        torch.manual_seed(seed)
        return Source.open(
            options.source or "embedded",
            options.pretrained,
            options.weights,
            own_size(options),
            taps=options.taps or None,
            without_taps=options.without_taps,
            resize=options.resize,
        )


def measured_size(options: SourceOptions, dataset: Dataset, seed: int) -> SourceOptions:
    """Replace the image size auto by the smallest size at which the source knows as much about the training pictures.

    Raises:
        SnowError: the source cannot be opened, or the labels are not classes.
    """
    sized = {None: new_source(replace(options, image_size=None), seed)}

    def opened(_name: str, size: int | None) -> Source:
        return sized[None] if size is None else new_source(replace(options, image_size=size), seed)

    name = options.source or "embedded"
    entries = rank_sources(Ranking(dataset.train, dataset.tasks[0], (name,), AUTO), None, opened, note, 0.0)["sources"]
    size, reason = choose_size(entries)
    note(f"image size: {reason}")
    return replace(options, image_size=size)


def own_size(options: SourceOptions) -> int | None:
    """Return the image size that is named. Raises SnowError: it is auto, and no labelled images are at hand."""
    if options.image_size == AUTO:
        raise SnowError("--image-size auto is measured on labelled images: use it with snow train or snow sources rank")
    return options.image_size


def _refuse_contradiction(hub: Path, options: SourceOptions) -> None:
    saved = read_source(hub)
    size = saved["preprocessing"]["image_size"]
    if options.image_size not in (None, AUTO, size):
        raise SnowError(
            f"hub {hub} has images of {size} px, not {options.image_size}: omit --image-size, or use another hub"
        )
    resize = saved["preprocessing"].get("resize", "crop")
    if options.resize not in (None, resize):
        raise SnowError(
            f"hub {hub} has images resized by {resize}, not {options.resize}: omit --resize, or use another hub"
        )
    if options.source is None and options.weights is None and options.pretrained:
        return
    architecture, weights = _identity(options, saved["architecture"])
    if (architecture, weights) != (saved["architecture"], saved["weights"]):
        raise SnowError(
            f"hub {hub} has the source {saved['architecture']} ({saved['weights']}), not {architecture} ({weights}): "
            "omit --source, --weights and --no-pretrained, or use another hub"
        )
    if options.weights is not None:
        from_file = Source.open(architecture, False, options.weights, size, resize=resize)
        if from_file.fingerprint != saved["fingerprint"]:
            raise SnowError(
                f"hub {hub} has other weights than {options.weights}: its fingerprint is {saved['fingerprint']}, not "
                f"{from_file.fingerprint}"
            )


def _identity(options: SourceOptions, default: str) -> tuple[str, str]:
    """Spell architecture and weights that the options name as in a source's description."""
    if options.source in EMBEDDED:
        return f"timm/{EMBEDDED[options.source]}", "embedded"
    architecture = full_name(options.source or default)
    if "/" not in architecture and not architecture.startswith(HUGGING_FACE):
        architecture = f"timm/{architecture}"
    if options.weights is not None:
        return architecture, options.weights.name
    return architecture, "pretrained" if options.pretrained else "random"
