"""Descriptions of tasks and their source as JSON values, for the task paths and the page."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from snow.hub import Artifact
from snow.hub.overlap import compare_masks
from snow.serving.worker import TaskSnapshot
from snow.source import Source
from snow.subscribe import SelectionHistory

MAX_STEPS = 96
"""Training steps of a selection history that are sent, at most."""


def describe_source(source: Source) -> dict[str, Any]:
    """Describe the source and its feature maps."""
    return {
        **source.description(),
        "parameters": source.learned_parameters,
        "features": source.num_features,
        "taps": [{"name": tap.name, "channels": tap.channels, "stride": tap.stride} for tap in source.taps],
    }


def summarise(artifact: Artifact) -> dict[str, Any]:
    """Summarise a task for a list of tasks."""
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


def describe(artifact: Artifact, tasks: TaskSnapshot) -> dict[str, Any]:
    """Describe a task in full, with its overlap with the other tasks."""
    history = artifact.metrics.get("history")
    selected = artifact.method.selected_mask()
    return {
        **summarise(artifact),
        "labels": list(artifact.classes),
        "metrics": plain({key: value for key, value in artifact.metrics.items() if key != "history"}),
        "history": plain([epoch for epoch in history if isinstance(epoch, dict)] if isinstance(history, list) else []),
        "training": plain(artifact.training),
        "subscribed": [
            {"tap": tap, "channels": len(mask), "chosen": mask.nonzero().flatten().tolist()}
            for tap, mask in selected.items()
        ],
        "overlap": overlaps(artifact, tasks) if selected else [],
    }


def overlaps(artifact: Artifact, tasks: TaskSnapshot) -> list[dict[str, Any]]:
    """Compare a task's selected channels with those of each task that shares a tap, the largest overlap first."""
    masks, pairs = artifact.method.selected_mask(), []
    for name, other in tasks.sound.items():
        others = other.method.selected_mask() if name != artifact.name else {}
        shared = {tap: mask for tap, mask in others.items() if tap in masks and len(mask) == len(masks[tap])}
        if shared:
            pair = compare_masks(masks, shared)
            taps = {tap: {key: entry[key] for key in ("iou", "chance")} for tap, entry in pair["taps"].items()}
            pairs.append({"task": name, "iou": pair["iou"], "chance": pair["chance"], "taps": taps})
    return sorted(pairs, key=lambda pair: (-pair["iou"], pair["task"]))


def describe_selection(history: SelectionHistory) -> dict[str, Any]:
    """Describe the selected channels over time: `rows` has one row of bits for each step, first channel first."""
    last = len(history.steps) - 1
    indices = torch.linspace(0, last, min(MAX_STEPS, last + 1)).round().long()
    return {
        "steps": history.steps[indices].tolist(),
        "batches": history.batches,
        "taps": [
            {
                "tap": tap,
                "channels": masks.shape[1],
                "taken": int(masks[-1].sum()),
                "ever": int(masks.any(0).sum()),
                "rows": base64.b64encode(np.packbits(masks[indices].numpy(), axis=1).tobytes()).decode(),
            }
            for tap, masks in history.masks.items()
        ],
    }


def plain(value: Any) -> Any:
    """Replace NaN and infinity by None: JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
