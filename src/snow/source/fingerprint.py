"""The fingerprint of a source: a hash of all that decides what it computes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def source_fingerprint(
    architecture: str, model: Mapping[str, Any] | None, preprocessing: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> str:
    """Compute SHA-256 of the architecture, the preprocessing and every tensor.

    Args:
        model: what a hub keeps of a model of transformers; None: it is none. Its configuration then counts in the place
            of the architecture, which says where it lies.
        preprocessing: as JSON values.
    """
    digest = hashlib.sha256()
    built = architecture if model is None else model.get("config")
    digest.update(json.dumps([built, preprocessing], sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"
