"""What `transformers` builds of a configuration, with random weights or those of a folder.

`transformers` takes seconds to import, so it is imported where a model is built. Code of a repository is never run.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from snow.errors import MismatchError, NotFoundError, SnowError
from snow.source.description import HUGGING_FACE

log = logging.getLogger("snow")


class ModelStructure:
    """What is built of a configuration: the class of the model, and its configuration as transformers has it.

    Raises:
        SnowError: it is no image model, or one that does not read RGB.
    """

    def __init__(self, values: Mapping[str, Any], spec: str) -> None:
        self.spec = spec
        library = transformers_library()
        auto = library.models.auto
        kind = values["model_type"]
        if kind not in auto.configuration_auto.CONFIG_MAPPING_NAMES:
            raise SnowError(
                f"{spec} is a model of type {kind!r}, which transformers {library.__version__} does not know"
            )
        class_name, self.has_head = _class_name(kind, auto.modeling_auto)
        architectures = values.get("architectures")
        named = architectures[0] if isinstance(architectures, list) and architectures else f"a model of type {kind}"
        if class_name is None:
            raise SnowError(
                f"{spec} is {named}: a source is an image classifier or backbone, such as ViT, DINOv2, Swin or ResNet"
            )
        self.model_class: Any = getattr(library, class_name)
        if not _reads_pictures(self.model_class):
            raise SnowError(f"{spec} is {named}, which reads something else than a picture of pixels")
        plain = {key: value for key, value in values.items() if key != "auto_map"}
        with one_line_error(f"{spec} cannot be built"), _quiet(library):
            self.config = auto.configuration_auto.CONFIG_MAPPING[kind].from_dict(plain)
        channels = getattr(vision_config(self.config), "num_channels", 3)
        if channels != 3:
            raise SnowError(f"{spec} reads pictures of {channels} channels: a source reads RGB, three channels")

    def random(self) -> nn.Module:
        """Build the model with random weights."""
        with one_line_error(f"{self.spec} cannot be built"), _quiet(transformers_library()):
            return self.model_class(self.config).float()

    def pretrained(self, folder: Path) -> nn.Module:
        """Build the model with the weights in a folder."""
        return self._filled(self.spec, folder)

    def fitting(self, tensors: Mapping[str, Tensor], origin: str) -> nn.Module:
        """Build the model with the tensors of a file, named as in this or an earlier version of transformers."""
        return self._filled(origin, None, state_dict=dict(tensors))

    def _filled(self, origin: str, *where: Any, **tensors: Any) -> nn.Module:
        """Load weights. There are as many classes as these have; a classifier that they lack gets one class, and zeros.

        Raises:
            SnowError: other tensors are missing, or of other shapes.
        """
        model, missing, shapes = self._load(*where, **tensors)
        head = f"{_last_layer(model)}." if self.has_head else None
        lacks_head = bool(missing) and head is not None and all(name.startswith(head) for name in missing)
        other_head = bool(shapes) and head is not None and all(name.startswith(head) for name in shapes)
        if lacks_head or other_head:
            self.config.num_labels = 1 if lacks_head else next(iter(shapes.values()))[0]
            model, missing, shapes = self._load(*where, **tensors)
        if lacks_head:
            for value in model.get_submodule(_last_layer(model)).parameters():
                nn.init.zeros_(value)
            log.warning("%s has no head: tasks can be trained, and the source's own answers are all alike", origin)
        elif missing or shapes:
            what = f"{missing[0]} is missing" if missing else f"{next(iter(shapes))} has another shape"
            raise MismatchError(
                f"{origin} does not fit {self.model_class.__name__}: {len(missing)} tensors missing, {len(shapes)} of "
                f"another shape ({what})"
            )
        return model

    def _load(self, *where: Any, **tensors: Any) -> tuple[nn.Module, list[str], dict[str, tuple[int, ...]]]:
        """Load weights, and return names of tensors that were not there, and shapes of those that do not fit."""
        library = transformers_library()
        with one_line_error(f"{self.spec} cannot be built"), _quiet(library), torch.device("cpu"):
            model, info = self.model_class.from_pretrained(
                *where,
                config=self.config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **tensors,
            )
        shapes = {name: tuple(shape) for name, shape, _expected in sorted(info["mismatched_keys"])}
        return model, sorted(set(info["missing_keys"]) - set(shapes)), shapes


def _class_name(kind: str, mappings: ModuleType) -> tuple[str | None, bool]:
    """Return the name of the class for a model type, None if it is no image model; and whether that has a head."""
    found = mappings.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.get(kind)
    if found is not None:
        return found if isinstance(found, str) else found[0], True
    is_backbone = kind in mappings.MODEL_FOR_BACKBONE_MAPPING_NAMES or kind.endswith("_vision_model")
    found = mappings.MODEL_MAPPING_NAMES.get(kind) if is_backbone else None
    return found if found is None or isinstance(found, str) else found[0], False


def _reads_pictures(model_class: Any) -> bool:
    """Whether a picture is all that a model needs."""
    if getattr(model_class, "main_input_name", None) != "pixel_values":
        return False
    _self, *inputs = inspect.signature(model_class.forward).parameters.values()
    needed = {each.name for each in inputs if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD}
    return needed <= {"pixel_values"}


def vision_config(config: Any) -> Any:
    """Return the part of a configuration that is about pictures."""
    return getattr(config, "vision_config", None) or config


def _last_layer(model: nn.Module) -> str:
    """Return the name of the last layer, which is the classifier."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]


def transformers_library() -> Any:
    """Import transformers. Raises SnowError: it is not installed."""
    try:
        import transformers
        import transformers.models.auto.configuration_auto
        import transformers.models.auto.modeling_auto
    except ImportError:
        raise NotFoundError(
            f"sources named {HUGGING_FACE}… need transformers: pip install 'snow-cnn[transformers]'"
        ) from None
    return transformers


@contextmanager
def _quiet(library: Any) -> Generator[None]:
    """Silence progress bars, reports and warnings of transformers."""
    logging_ = library.utils.logging
    before, had_bars = logging_.get_verbosity(), logging_.is_progress_bar_enabled()
    logging_.set_verbosity(logging.CRITICAL)
    logging_.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging_.set_verbosity(before)
        if had_bars:
            logging_.enable_progress_bar()


@contextmanager
def one_line_error(failure: str) -> Generator[None]:
    """Turn what transformers raises into one line: a dozen types, of validation, of files, of missing packages."""
    try:
        yield
    except SnowError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise SnowError(f"{failure}: {lines[0].rstrip('.:') if lines else type(error).__name__}") from error
