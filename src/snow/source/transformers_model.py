"""Image models of Hugging Face `transformers` as sources: from a repository or a folder, or as a hub has saved them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snow.errors import DamagedError, MismatchError
from snow.source.model_folder import ModelFolder
from snow.source.model_structure import ModelStructure, one_line_error, transformers_library, vision_config
from snow.source.preprocessing import Preprocessing
from snow.source.weights import load_weights, read_weights

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

    blocks_give_tuples: ClassVar[bool] = True
    """Blocks may give attention weights beside their tokens."""

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
        self.saved: dict[str, Any] = {"version": transformers_library().__version__, "config": dict(config)}
        self.origin = dict(origin or {})
        own: Any = vision_config(model.config)
        can_interpolate = "interpolate_pos_encoding" in inspect.signature(type(model).forward).parameters
        is_other = getattr(own, "image_size", image_size) not in (image_size, [image_size] * 2, (image_size,) * 2)
        self.options = {"interpolate_pos_encoding": True} if can_interpolate and is_other else {}
        self.head: nn.Linear | None = None
        read = self._run_once(image_size, has_head)
        if not has_head:
            self.head = _zero_head(read.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        output = self.model(pixel_values=x, **self.options)
        return output.logits if self.head is None else self.head(_pooled(output))

    def _get_name(self) -> str:
        return self.model._get_name()  # torch prints it, and messages name it

    @torch.no_grad()
    def _run_once(self, image_size: int, has_head: bool) -> Tensor:
        """Run the model over one picture: (1, 3, S, S) -> logits (1, C), or pooled features (1, D).

        Raises:
            SnowError: it takes none of this size, needs more than pictures, or gives neither.
        """
        device = next(iter(self.model.state_dict().values())).device
        pictures = torch.zeros(1, 3, image_size, image_size, device=device)
        with one_line_error(f"{type(self.model).__name__} cannot take pictures of {image_size} pixels"):
            output = self.model.eval()(pixel_values=pictures, **self.options)
            return output.logits if has_head else _pooled(output)


def from_transformers(
    name: str, pretrained: bool = True, weights: str | Path | None = None, image_size: int | None = None
) -> tuple[nn.Module, str, str, Preprocessing]:
    """Build an image model of transformers; see `Source.from_transformers`."""
    transformers_library()
    folder = ModelFolder(name)
    kept = folder.kept_config()
    structure = ModelStructure(folder.config, folder.spec)
    preprocessing = folder.preprocessing(getattr(vision_config(structure.config), "image_size", None), image_size)
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
    if not folder.processor and label != "random":
        log.warning("%s has no preprocessor_config.json: pictures are prepared as for ImageNet", folder.spec)
    return network, folder.spec, label, preprocessing


def from_saved(
    saved: Mapping[str, Any], spec: str, tensors: Mapping[str, Tensor], image_size: int, origin: Mapping[str, str]
) -> TransformersModel:
    """Build the model that a hub has saved, without the network.

    Args:
        saved: of `TransformersModel`.
        spec: its name, for error messages.
        tensors: all that it has.
        origin: licence and model card of these.

    Raises:
        SnowError: `saved` is damaged, or does not fit the tensors or this version of transformers.
    """
    config = saved.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise DamagedError(f"the description of {spec} is damaged: it has no configuration")
    structure = ModelStructure(config, spec)
    network = TransformersModel(structure.random(), config, image_size, structure.has_head, origin)
    try:
        load_weights(network, tensors, spec)
    except MismatchError as error:
        made, here = saved.get("version"), network.saved["version"]
        if made == here:
            raise
        raise MismatchError(
            f"{error}: it was saved with transformers {made}, not {here}: install that version"
        ) from error
    network.saved = dict(saved)
    return network


def _zero_head(width: int) -> nn.Linear:
    """Make a classifier of one class, which tells nothing: (B, D) -> (B, 1)."""
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _pooled(output: Any) -> Tensor:
    """Take pooled features, or pool tokens (B, T, D) or a map (B, D, H, W): -> (B, D)."""
    pooled = getattr(output, "pooler_output", None)
    if isinstance(pooled, Tensor):
        return pooled.flatten(1)
    last = output.last_hidden_state
    return last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)


@torch.no_grad()
def _swap_colours(model: nn.Module) -> None:
    """Let a network that reads blue, green, red read red, green, blue, by its first layer."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    first.weight.copy_(first.weight.flip(1))
