"""Descriptions of tasks and their source as JSON values, for the task paths and the page."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import torch

from snow.hub.overlap import Overlaps
from snow.serving.worker import TaskSnapshot
from snow.source import Source
from snow.subscribe import SelectionHistory

MAX_STEPS = 96
"""Training steps of a selection history that are sent, at most."""

MAX_BY_TAP = 20
"""Overlaps with other tasks that are sent with their taps, at most."""


def describe_source(source: Source) -> dict[str, Any]:
    """Describe the source and its feature maps."""
    return {
        **source.description(),
        "parameters": source.learned_parameters,
        "features": source.num_features,
        "taps": [{"name": tap.name, "channels": tap.channels, "stride": tap.stride} for tap in source.taps],
    }


def describe(name: str, tasks: TaskSnapshot) -> dict[str, Any]:
    """Describe a task in full, with its overlap with the other tasks. NaN may be in it, see `encode_json`."""
    facts = tasks.described[name]
    artifact, history = facts.artifact, facts.artifact.metrics.get("history")
    return {
        **facts.summary,
        "labels": list(artifact.classes),
        "description": artifact.labels.describe(),
        "metrics": {key: value for key, value in artifact.metrics.items() if key != "history"},
        "history": [epoch for epoch in history if isinstance(epoch, dict)] if isinstance(history, list) else [],
        "training": artifact.training,
        "subscribed": [
            {"tap": tap, "channels": len(mask), "chosen": mask.nonzero().flatten().tolist()}
            for tap, mask in facts.selected.items()
        ],
        "overlap": describe_overlaps(name, tasks) if facts.selected else [],
    }


def describe_overlaps(name: str, tasks: TaskSnapshot) -> list[dict[str, Any]]:
    """Compare a task's selected channels with those of each task that shares a tap, the largest overlap first.

    The first `MAX_BY_TAP` have their overlap at each tap too.
    """
    overlaps = Overlaps(tasks.selections, [name])
    iou, by_chance = overlaps.iou[0].tolist(), overlaps.chance[0].tolist()
    order = [index for index, task in enumerate(overlaps.names) if task != name and not math.isnan(iou[index])]
    order.sort(key=lambda index: (-iou[index], overlaps.names[index]))
    pairs: list[dict[str, Any]] = []
    for index in order:
        pairs.append({"task": overlaps.names[index], "iou": iou[index], "chance": by_chance[index], "taps": {}})
        if len(pairs) <= MAX_BY_TAP:
            taps = overlaps.pair(0, index)["taps"]
            pairs[-1]["taps"] = {tap: {key: entry[key] for key in ("iou", "chance")} for tap, entry in taps.items()}
    return pairs


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
