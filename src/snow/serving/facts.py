"""Facts about a task that lists and pages show again and again, computed once when the task is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from snow.hub import Artifact
from snow.hub.listing import figures, top1
from snow.kinds import NumberKind


@dataclass(frozen=True)
class TaskFacts:
    """Facts about one version of a task.

    Attributes:
        artifact: the version.
        summary: the entry in a list of tasks, as JSON values.
        selected: tap -> (N,) of bool, the channels that the task selects.
    """

    artifact: Artifact
    summary: Mapping[str, Any]
    selected: Mapping[str, Tensor]

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        unit = artifact.labels.unit if isinstance(artifact.labels, NumberKind) else ""
        summary = {
            "name": artifact.name,
            "method": artifact.method.name,
            "classes": len(artifact.classes),
            "parameters": artifact.learned_parameters,
            "bytes": artifact.size,
            "top1": top1(artifact.metrics),
            "kind": artifact.labels.name,
            "figures": figures(artifact.metrics),
            **({"unit": unit} if unit else {}),
        }
        return cls(artifact, summary, {tap: mask.cpu() for tap, mask in artifact.method.selected_mask().items()})


def encode_json(value: object) -> bytes:
    """Encode a value as JSON: NaN and infinity, which JSON does not have, become null."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8", "backslashreplace"
    )


def plain(value: Any) -> Any:
    """Replace NaN and infinity by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
