"""Tiny models of transformers with random weights, saved as folders; the model itself is what tests compare with."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snow.source import Source

TOKENS = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT = {**TOKENS, "intermediate_size": 96, "image_size": 64, "patch_size": 16, "num_labels": 10}
STAGES = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1], "num_labels": 10}

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3}
CROPPED = {**IMAGENET, "size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}, "do_center_crop": True}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "size": {"height": 64, "width": 64}}

MODELS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", VIT, HALF),
    "dinov2": ("Dinov2Model", "Dinov2Config", {**TOKENS, "image_size": 56, "patch_size": 14}, CROPPED),
    "swin": (
        "SwinForImageClassification",
        "SwinConfig",
        {"image_size": 64, "embed_dim": 24, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4, "num_labels": 10},
        HALF,
    ),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", STAGES, {**IMAGENET, "size": 64, "crop_pct": 0.8}),
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {**STAGES, "embedding_size": 16, "layer_type": "basic"},
        {**IMAGENET, "size": {"shortest_edge": 64}, "crop_pct": 0.875},
    ),
}
"""Name -> class of the model, class of its configuration, what that has, what prepares pictures."""

OWN_SIZES = {"dinov2": 56}
"""Name -> size of pictures, where it is not that of the configuration."""

PADDING = ("MobileNetV1ForImageClassification", "MobileNetV1Config", {"depth_multiplier": 0.25, "image_size": 64}, HALF)
"""Reads the stride of its convolutions to pad maps, and so cannot be adapted."""


@contextmanager
def silent() -> Iterator[None]:
    """Without bars and warnings of transformers."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.enable_progress_bar()


def save_model(name: str, folder: Path, **changed: Any) -> torch.nn.Module:
    """Save the model `name` of `MODELS` with what belongs to it, and return it."""
    import transformers

    model_class, config_class, values, processor = (MODELS | {"mobilenet": PADDING})[name]
    with torch.random.fork_rng(devices=[]), silent():
        torch.manual_seed(0)
        model = getattr(transformers, model_class)(getattr(transformers, config_class)(**{**values, **changed}))
        for value in model.state_dict().values():
            if value.is_floating_point() and not value.any():
                torch.nn.init.normal_(value, std=0.02)  # shifts and position embeddings that start at zero
        model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [vision]\n---\n# A tiny model\n")
    return model.eval()


def write_config(folder: Path, values: Mapping[str, Any]) -> Path:
    """Write a folder that has a configuration alone."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def draw_pictures(source: Source, count: int = 2) -> Tensor:
    """Draw noise of the source's size: uint8 (count, 3, S, S)."""
    size = source.preprocessing.image_size
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
