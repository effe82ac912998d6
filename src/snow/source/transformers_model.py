"""Image models of Hugging Face `transformers` as sources: from a repository or a folder, or as a hub has saved them.

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

from snow.errors import DamagedError, MismatchError, NotFoundError, SnowError
from snow.source.description import HUGGING_FACE
from snow.source.model_folder import ModelFolder
from snow.source.preprocessing import Preprocessing
from snow.source.weights import classes_of, fitted_names, load_weights, read_weights

log = logging.getLogger("snow")


class TransformersModel(nn.Module):
    """Run a model of transformers as a network of timm runs: normalised pictures (B, 3, S, S) -> logits (B, C).

    A model without a classifier gets one of a single class, with weights of zero.

    Args:
        model: with logits among its outputs, or pooled features.
        config: what decides its structure, as JSON values.
        has_head: whether it gives logits.
        image_size: S. Position embeddings for another size are interpolated in each pass, where the model can do that.
        origin: licence and model card of its weights.

    Attributes:
        saved: what a hub keeps of it beside the weights, as JSON values.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Mapping[str, Any],
        image_size: int,
        has_head: bool,
        origin: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.saved: dict[str, Any] = {"version": _transformers().__version__, "config": dict(config)}
        self.origin = dict(origin or {})
        own: Any = _vision_config(model.config)
        can_interpolate = "interpolate_pos_encoding" in inspect.signature(type(model).forward).parameters
        is_other = getattr(own, "image_size", image_size) not in (image_size, [image_size] * 2, (image_size,) * 2)
        self.options = {"interpolate_pos_encoding": True} if can_interpolate and is_other else {}
        self.head = None if has_head else self._zero_head(image_size)

    def forward(self, x: Tensor) -> Tensor:
        output = self.model(pixel_values=x, **self.options)
        return output.logits if self.head is None else self.head(_pooled(output))

    @torch.no_grad()
    def _zero_head(self, image_size: int) -> nn.Linear:
        """Make a classifier for the width that one pass shows."""
        device = next(iter(self.model.state_dict().values())).device
        pictures = torch.zeros(1, 3, image_size, image_size, device=device)
        with _one_line(type(self.model).__name__):
            width = _pooled(self.model.eval()(pixel_values=pictures, **self.options)).shape[1]
        head = nn.Linear(width, 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head


def from_transformers(
    name: str, pretrained: bool = True, weights: str | Path | None = None, image_size: int | None = None
) -> tuple[nn.Module, str, str, Preprocessing]:
    """Build an image model of transformers; see `Source.from_transformers`."""
    _transformers()
    folder = ModelFolder(name)
    kept = folder.kept_config()
    structure = _Structure(folder.config, folder.spec)
    preprocessing = folder.preprocessing(getattr(_vision_config(structure.config), "image_size", None), image_size)
    label = "pretrained" if pretrained else "random"
    if weights is not None:
        model, label = structure.fitting(read_weights(weights), str(weights)), Path(weights).name
    elif pretrained:
        model = structure.pretrained(folder.with_weights())
    else:
        model = structure.random()
    if structure.has_head:
        kept["num_labels"] = structure.config.num_labels
    if folder.is_bgr():
        _swap_colours(model)
    origin = folder.origin() if label == "pretrained" else {}
    network = TransformersModel(model, kept, preprocessing.image_size, structure.has_head, origin)
    return network, folder.spec, label, preprocessing


def from_saved(saved: Mapping[str, Any], spec: str, weights: Path, image_size: int) -> TransformersModel:
    """Build the model that a hub has saved, without the network.

    Args:
        saved: of `TransformersModel`.
        spec: its name, for error messages.
        weights: file with its tensors.

    Raises:
        SnowError: `saved` is damaged, or does not fit the weights or this version of transformers.
    """
    config = saved.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise DamagedError(f"the description of {spec} is damaged: it has no configuration")
    tensors = read_weights(weights)
    structure = _Structure(config, spec)
    network = TransformersModel(structure.random(), config, image_size, structure.has_head)
    try:
        load_weights(network, tensors, str(weights))
    except MismatchError as error:
        made, here = saved.get("version"), network.saved["version"]
        if made == here:
            raise
        raise MismatchError(f"{error}; it was saved with transformers {made}, and this is {here}") from error
    network.saved = dict(saved)
    return network


class _Structure:
    """What is built of a configuration: the class of the model, and its configuration as transformers has it.

    Raises:
        SnowError: it is no image model, or one that does not read RGB.
    """

    def __init__(self, values: Mapping[str, Any], spec: str) -> None:
        self.spec = spec
        library = _transformers()
        auto = library.models.auto
        kind = values["model_type"]
        if kind not in auto.configuration_auto.CONFIG_MAPPING_NAMES:
            raise SnowError(f"{spec} is a model of type {kind!r}, which transformers {library.__version__} does not know")
        class_name, self.has_head = _class_name(kind, auto.modeling_auto)
        self.model_class: Any = None if class_name is None else getattr(library, class_name)
        if self.model_class is None or not _reads_pictures(self.model_class):
            named = values.get("architectures") or [f"a model of type {kind}"]
            raise SnowError(
                f"{spec} is {named[0]}: a source is an image classifier or backbone of transformers, such as ViT, Swin, "
                "DINOv2, ConvNeXt or ResNet"
            )
        plain = {key: value for key, value in values.items() if key != "auto_map"}
        with _one_line(spec), _quiet(library):
            self.config = auto.configuration_auto.CONFIG_MAPPING[kind].from_dict(plain)
        channels = getattr(_vision_config(self.config), "num_channels", 3)
        if channels != 3:
            raise SnowError(f"{spec} reads pictures of {channels} channels: a source reads RGB, three channels")

    def random(self) -> nn.Module:
        """Build the model with random weights."""
        with _one_line(self.spec), _quiet(_transformers()):
            return self.model_class(self.config).float()

    def pretrained(self, folder: Path) -> nn.Module:
        """Build the model with the weights in a folder. A classifier that these lack gets one class, and zeros."""
        model, missing = self._load(folder)
        head = _last_layer(model) if self.has_head else None
        if missing and head and all(name.startswith(f"{head}.") for name in missing):
            self.config.num_labels = 1
            model, missing = self._load(folder)
            for value in model.get_submodule(head).parameters():
                nn.init.zeros_(value)
            log.warning("%s has no head: tasks can be trained, and the source's own answers are all alike", self.spec)
        elif missing:
            raise MismatchError(
                f"{self.spec} does not fit {self.model_class.__name__}: {len(missing)} tensors missing ({missing[0]})"
            )
        return model

    def fitting(self, tensors: Mapping[str, Tensor], origin: str) -> nn.Module:
        """Build the model with the tensors of a file, with as many classes as the file has."""
        model = self.random()
        tensors = fitted_names(tensors, model)
        classes = classes_of(tensors, model.state_dict())
        if self.has_head and classes is not None:
            self.config.num_labels = classes
            model = self.random()
        load_weights(model, tensors, origin)
        return model

    def _load(self, folder: Path) -> tuple[nn.Module, list[str]]:
        """Load weights, and return the names of tensors that were not there."""
        library = _transformers()
        with _one_line(self.spec), _quiet(library), torch.device("cpu"):
            model, info = self.model_class.from_pretrained(
                folder,
                config=self.config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        return model, sorted(info["missing_keys"])


def _class_name(kind: str, mappings: ModuleType) -> tuple[str | None, bool]:
    """Return the name of the class to build for a model type, None if it is no image model; and whether it has a head."""
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
    _self, *parameters = inspect.signature(model_class.forward).parameters.values()
    needed = [each.name for each in parameters if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]
    return set(needed) <= {"pixel_values"}


def _vision_config(config: Any) -> Any:
    """Return the part of a configuration that is about pictures."""
    return getattr(config, "vision_config", None) or config


def _pooled(output: Any) -> Tensor:
    """Take pooled features, or pool tokens (B, T, D) or a map (B, D, H, W): -> (B, D)."""
    pooled = getattr(output, "pooler_output", None)
    if isinstance(pooled, Tensor):
        return pooled.flatten(1)
    last = output.last_hidden_state
    return last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)


def _last_layer(model: nn.Module) -> str:
    """Return the name of the last layer, which is the classifier."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]


@torch.no_grad()
def _swap_colours(model: nn.Module) -> None:
    """Let a network that reads blue, green, red read red, green, blue, by its first layer."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    first.weight.copy_(first.weight.flip(1))


def _transformers() -> Any:
    """Import transformers. Raises SnowError: it is not installed."""
    try:
        import transformers
        import transformers.models.auto.configuration_auto
        import transformers.models.auto.modeling_auto
    except ImportError:
        raise NotFoundError(f"sources named {HUGGING_FACE}… need transformers: pip install 'snow-cnn[transformers]'") from None
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
def _one_line(spec: str) -> Generator[None]:
    """Turn what transformers raises into one line: a dozen types, of validation, of files, of missing packages."""
    try:
        yield
    except SnowError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise SnowError(f"{spec} cannot be built: {lines[0] if lines else type(error).__name__}") from error
