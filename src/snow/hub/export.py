"""A whole hub as one file that needs nothing of this project: ONNX, or a program of `torch.export`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.hub.hub import Hub
from snow.hub.task_record import TOLERANCE
from snow.inference.fused import example, fuse_for_inference, fuse_method
from snow.inference.onnx_tools import first_line, onnx_program, quiet_exporters, require_onnx
from snow.inference.prediction import SOURCE_HEAD
from snow.source import Source
from snow.store import atomic_file

INPUT = "images"


class Whole(nn.Module):
    """Pictures (B, 3, S, S) uint8 -> logits (B, classes) of each task, in the order of `names`."""

    def __init__(self, hub: Hub, tasks: Collection[str] | None = None) -> None:
        super().__init__()
        broken = hub.broken() if tasks is None else {}
        self.names = tuple(tasks if tasks is not None else (one for one in hub.names() if one not in broken))
        if not self.names:
            raise SnowError(f"hub {hub.path} has no task to export")
        self.classes = {name: hub.classes(name) for name in self.names}
        methods = [None if name == SOURCE_HEAD else hub.task(name).method for name in self.names]
        self.source: Source = fuse_for_inference(hub.source).to(memory_format=torch.contiguous_format)
        self.taps = sorted(frozenset[str]().union(*(one.taps for one in methods if one is not None)))
        self.source.register_taps(self.taps)
        features = self.source.extract(example(hub.source), self.taps)
        heads = [nn.Identity() if one is None else fuse_method(one, features) for one in methods]
        self.heads = nn.ModuleList(heads).requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.source.extract(images, self.taps)
        return tuple(
            features.logits if name == SOURCE_HEAD else head(features)
            for name, head in zip(self.names, self.heads, strict=True)
        )

    def description(self) -> dict[str, str]:
        """What a reader of the file has to know, as JSON: how pictures are prepared, and each task's classes."""
        preprocessing = self.source.preprocessing.to_dict()
        return {"snow.preprocessing": json.dumps(preprocessing), "snow.classes": json.dumps(self.classes)}


def export(hub: Hub, path: str | Path, tasks: Collection[str] | None = None) -> None:
    """Writes tasks of a hub, with the source, as one file: `.onnx`, or `.pt2` for `torch.export.load`.

    The file takes `images`, (B, 3, S, S) uint8 of any B, prepared as the source's preprocessing says but not
    normalised, and gives the logits of each task under its name. It is checked against the hub before it is kept.

    Args:
        tasks: by default all that can answer; `SOURCE_HEAD` among them is the source's own head.

    Raises:
        SnowError: another ending, no tasks, a package that is missing, a network that cannot be exported, a file that
            does not answer as the hub does or cannot be written.
    """
    path = Path(path)
    writers = {".onnx": _write_onnx, ".pt2": _write_program}
    if path.suffix not in writers:
        raise SnowError(f"{path} ends in neither {' nor '.join(writers)}")
    whole = Whole(hub, tasks)
    pictures = example(hub.source).expand(3, -1, -1, -1).clone()
    pictures[1:] = pictures[1:].flip(2, 3)
    with torch.no_grad():
        expected = hub.logits(pictures, whole.names)
    with quiet_exporters():
        content, run = writers[path.suffix](whole, pictures[:2])
        found = run(pictures)
    for name in whole.names:
        _require_alike(name, found[name], expected[name], path)
    try:
        with atomic_file(path) as new:
            new.write_bytes(content)
    except OSError as error:
        raise SnowError(f"{path} cannot be written: {error.strerror or error}") from error


Run = Callable[[Tensor], dict[str, Tensor]]
"""Answers with what was written."""


def _write_onnx(whole: Whole, pictures: Tensor) -> tuple[bytes, Run]:
    onnxruntime = require_onnx("exporting to ONNX")
    program = onnx_program("this hub", whole, pictures, INPUT, whole.names)
    program.model.metadata_props.update(whole.description())
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> dict[str, Tensor]:
        answers = session.run(list(whole.names), {INPUT: images.numpy()})
        return {name: torch.from_numpy(answer) for name, answer in zip(whole.names, answers, strict=True)}

    return content, run


def _write_program(whole: Whole, pictures: Tensor) -> tuple[bytes, Run]:
    try:
        program = torch.export.export(
            _Named(whole), (pictures,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
    except Exception as error:  # whatever a network does that cannot be traced
        raise SnowError(f"this hub cannot be exported: {first_line(error)}") from error
    written = io.BytesIO()
    torch.export.save(program, written, extra_files=whole.description())
    loaded = torch.export.load(io.BytesIO(written.getvalue())).module()
    return written.getvalue(), lambda images: loaded(images)


class _Named(nn.Module):
    """A program of torch can say which answer is whose."""

    def __init__(self, whole: Whole) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.whole.names, self.whole(images), strict=True))


def _require_alike(name: str, found: Tensor, expected: Tensor, path: Path) -> None:
    error = (found - expected).abs().max() / expected.abs().max()
    if not error <= TOLERANCE:
        raise SnowError(f"{path} was not kept: logits of task {name} would be off by {error:.1e} of the largest")
