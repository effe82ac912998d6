"""Export: a hub as one file that runs without this package, ONNX or a program of `torch.export`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from snow.errors import NotFoundError, SnowError, file_error
from snow.hub.hub import Hub
from snow.hub.task_record import TOLERANCE
from snow.inference import SOURCE_HEAD
from snow.inference.fused import example, fuse_for_inference, fuse_method
from snow.inference.onnx_tools import first_line, onnx_program, quiet_exporters, require_onnx
from snow.source import Source
from snow.store import atomic_file

INPUT = "images"


class ExportedHub(nn.Module):
    """The network that is exported: pictures (B, 3, S, S) uint8 -> logits (B, classes) of each task in `names`.

    Args:
        tasks: names; by default all that can answer.

    Raises:
        SnowError: there is no task to export, or one is unknown or broken.
    """

    def __init__(self, hub: Hub, tasks: Collection[str] | None = None) -> None:
        super().__init__()
        broken = hub.broken() if tasks is None else {}
        self.names = tuple(tasks if tasks is not None else (name for name in hub.names() if name not in broken))
        if not self.names:
            raise NotFoundError(f"hub {hub.path} has no task to export")
        self.labels = {name: hub.labels(name) for name in self.names}
        methods = [None if name == SOURCE_HEAD else hub.task(name).method for name in self.names]
        self.source: Source = fuse_for_inference(hub.source).to(memory_format=torch.contiguous_format)
        self.taps = sorted(frozenset[str]().union(*(method.taps for method in methods if method is not None)))
        self.source.register_taps(self.taps)
        features = self.source.extract(example(hub.source), self.taps)
        heads = [nn.Identity() if method is None else fuse_method(method, features) for method in methods]
        self.heads = nn.ModuleList(heads).requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.source.extract(images, self.taps)
        return tuple(
            self.labels[name].decoded(features.logits if name == SOURCE_HEAD else head(features))
            for name, head in zip(self.names, self.heads, strict=True)
        )

    def metadata(self) -> dict[str, str]:
        """Return what a reader of the file needs, as JSON: the preprocessing, and the labels of each task.

        `snow.classes` has the names by task; `snow.labels` says of each task its kind, its names, and what its output
        is: logits of classes, probabilities of tags or grades, or a number.
        """
        preprocessing = self.source.preprocessing.to_dict()
        classes = {name: kind.names for name, kind in self.labels.items()}
        labels = {
            name: {"kind": kind.name, "names": kind.names, "output": kind.output, **kind.to_dict()}
            for name, kind in self.labels.items()
        }
        values = {"preprocessing": preprocessing, "classes": classes, "labels": labels}
        return {f"snow.{key}": json.dumps(value) for key, value in values.items()}


def export(hub: Hub, path: str | Path, tasks: Collection[str] | None = None) -> None:
    """Write tasks of a hub together with the source as one file: `.onnx`, or `.pt2` for `torch.export.load`.

    The file takes `images`, (B, 3, S, S) uint8 for any B, resized and cropped as the source's preprocessing says but
    not normalised, and returns the logits of each task under its name. Before it is written, its logits are compared
    with those of the hub.

    Args:
        tasks: by default all that can answer. `SOURCE_HEAD` stands for the source's own head.

    Raises:
        SnowError: the name has another suffix, there are no tasks, a package is missing, the network cannot be
            exported, the exported logits differ, or the file cannot be written.
    """
    path = Path(path)
    exporters = {".onnx": _export_onnx, ".pt2": _export_program}
    if path.suffix not in exporters:
        raise SnowError(f"{path} ends in neither {' nor '.join(exporters)}")
    network = ExportedHub(hub, tasks)
    pictures = example(hub.source).expand(3, -1, -1, -1).clone()
    pictures[1:] = pictures[1:].flip(2, 3)
    logits = hub.logits(pictures, network.names)
    expected = {name: network.labels[name].decoded(values) for name, values in logits.items()}
    with quiet_exporters():
        content, run = exporters[path.suffix](network, pictures[:2])
        with torch.no_grad():
            exported = run(pictures)
    for name in network.names:
        _check_logits(name, exported[name], expected[name], path)
    try:
        with atomic_file(path) as new:
            new.write_bytes(content)
    except OSError as error:
        raise file_error(f"{path} cannot be written: {error.strerror or error}", error) from error


Run = Callable[[Tensor], dict[str, Tensor]]
"""Runs the exported file: (B, 3, S, S) uint8 -> logits by task."""


def _export_onnx(network: ExportedHub, pictures: Tensor) -> tuple[bytes, Run]:
    onnxruntime = require_onnx("exporting to ONNX")
    program = onnx_program("this hub", network, pictures, INPUT, network.names)
    program.model.metadata_props.update(network.metadata())
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> dict[str, Tensor]:
        logits = session.run(list(network.names), {INPUT: images.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(network.names, logits, strict=True)}

    return content, run


def _export_program(network: ExportedHub, pictures: Tensor) -> tuple[bytes, Run]:
    try:
        program = torch.export.export(
            _NamedOutputs(network), (pictures,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
    except Exception as error:  # a network that cannot be traced may raise anything
        raise SnowError(f"this hub cannot be exported: {first_line(error)}") from error
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=network.metadata())
    loaded = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return buffer.getvalue(), lambda images: loaded(images)


class _NamedOutputs(nn.Module):
    """Returns logits by task: unlike ONNX, a program of torch can have a dict as its output."""

    def __init__(self, network: ExportedHub) -> None:
        super().__init__()
        self.whole = network  # saved programs have this name in those of their tensors

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.whole.names, self.whole(images), strict=True))


def _check_logits(name: str, exported: Tensor, expected: Tensor, path: Path) -> None:
    error = (exported - expected).abs().max() / expected.abs().max()
    if not error <= TOLERANCE:
        raise SnowError(f"{path} was not written: logits of task {name} differ by {error:.1e} of the largest")
