"""What the service tells about tasks and their source, as JSON values."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from snow.hub import Artifact
from snow.hub.overlap import compare_masks
from snow.serving.worker import Catalog
from snow.source import Source
from snow.subscribe import SelectionHistory

MOMENTS = 96
"""Of a choice over time so many rows are told, at most."""


def describe_source(source: Source) -> dict[str, Any]:
    return {
        **source.description(),
        "parameters": source.learned_parameters,
        "features": source.num_features,
        "taps": [{"name": tap.name, "channels": tap.channels, "stride": tap.stride} for tap in source.taps],
    }


def summarise(artifact: Artifact) -> dict[str, Any]:
    """One line of a list of tasks."""
    test = artifact.metrics.get("test")
    top1 = test.get("top1") if isinstance(test, dict) else None
    return {
        "name": artifact.name,
        "method": artifact.method.name,
        "classes": len(artifact.classes),
        "parameters": artifact.method.learned_parameters,
        "bytes": artifact.size,
        "top1": plain(top1) if isinstance(top1, int | float) else None,
    }


def describe(artifact: Artifact, catalog: Catalog) -> dict[str, Any]:
    """All about one task, and how far the others take the same channels."""
    history = artifact.metrics.get("history")
    taken = artifact.method.selected_mask()
    return {
        **summarise(artifact),
        "labels": list(artifact.classes),
        "metrics": plain({key: value for key, value in artifact.metrics.items() if key != "history"}),
        "history": plain([one for one in history if isinstance(one, dict)] if isinstance(history, list) else []),
        "training": plain(artifact.training),
        "subscribed": [
            {"tap": tap, "channels": len(mask), "chosen": mask.nonzero().flatten().tolist()}
            for tap, mask in taken.items()
        ],
        "overlap": overlaps(artifact, catalog) if taken else [],
    }


def overlaps(artifact: Artifact, catalog: Catalog) -> list[dict[str, Any]]:
    """With each other task that chooses at the same taps, the closest first."""
    mine, found = artifact.method.selected_mask(), []
    for name, other in catalog.tasks.items():
        theirs = other.method.selected_mask() if name != artifact.name else {}
        theirs = {tap: mask for tap, mask in theirs.items() if tap in mine and len(mask) == len(mine[tap])}
        if theirs:
            pair = compare_masks(mine, theirs)
            taps = {tap: {key: entry[key] for key in ("iou", "chance")} for tap, entry in pair["taps"].items()}
            found.append({"task": name, "iou": pair["iou"], "chance": pair["chance"], "taps": taps})
    return sorted(found, key=lambda one: (-one["iou"], one["task"]))


def describe_selection(choices: SelectionHistory) -> dict[str, Any]:
    """A picture of the choice over time: `rows` of bits, one for each moment, the first channel highest."""
    last = len(choices.steps) - 1
    moments = torch.linspace(0, last, min(MOMENTS, last + 1)).round().long()
    return {
        "steps": choices.steps[moments].tolist(),
        "batches": choices.batches,
        "taps": [
            {
                "tap": tap,
                "channels": masks.shape[1],
                "taken": int(masks[-1].sum()),
                "ever": int(masks.any(0).sum()),
                "rows": base64.b64encode(np.packbits(masks[moments].numpy(), axis=1).tobytes()).decode(),
            }
            for tap, masks in choices.masks.items()
        ],
    }


def plain(value: Any) -> Any:
    """As JSON, which has no infinity and no NaN: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value
