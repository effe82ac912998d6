"""ONNX Runtime in the place of a source's PyTorch network, in single precision or 8 bits, on CPUs."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor, resized_crop

from snow.errors import SnowError
from snow.inference.auto import AutoEngine
from snow.inference.fused import example, fuse_for_inference
from snow.inference.graph_store import GraphStore
from snow.inference.onnx_tools import first_line, onnx_program, quiet_exporters, require_onnx
from snow.source import Preprocessing, Source
from snow.source.network import FINAL, LOGITS, Network, NetworkOutput
from snow.store.cache_folder import cache_folder

PHOTOGRAPHS = (
    "skimage/data/astronaut.png",
    "skimage/data/brick.png",
    "skimage/data/chelsea.png",
    "skimage/data/coffee.png",
    "skimage/data/grass.png",
    "skimage/data/gravel.png",
    "skimage/data/motorcycle_left.png",
    "skimage/data/retina.jpg",
    "skimage/data/rocket.jpg",
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
)
"""Photographs that installed packages bring: people, animals, things, places, textures. They calibrate int8."""

CROPS = ((0.0, 0.0, 1.0), (0.0, 0.0, 0.5), (0.5, 0.5, 0.5), (0.25, 0.25, 0.5))
"""Top, left and side of square crops, as fractions of the photograph's short side."""


def photographs(preprocessing: Preprocessing) -> Tensor:
    """Load the calibration pictures: square crops of `PHOTOGRAPHS`, (44, 3, S, S) uint8."""
    size = [preprocessing.image_size] * 2
    crops = []
    for name in PHOTOGRAPHS:
        package, _, rest = name.partition("/")
        with Image.open(Path(str(files(package))) / rest) as picture:
            pixels = pil_to_tensor(picture.convert("RGB"))
        short = min(pixels.shape[-2:])
        for square in CROPS:
            top, left, side = (round(part * short) for part in square)
            crops.append(resized_crop(pixels, top, left, side, side, size, antialias=True))
    return torch.stack(crops)


PRODUCTS = ["Conv", "Gemm", "MatMul"]
"""What of a transformer computes in 8 bits; its sums, normalisation and softmax have too wide a range for that."""

INPUT = "pictures"
"""Name of the graph's input; no tap has it."""


class OnnxBackend(Network):
    """Runs the CNN of a source as an ONNX graph, and of the graph only what the requested outputs need.

    Args:
        fused: the source whose network this takes the place of.
        store: keeps the graph with weights and maps in 8 bits; None: they stay in single precision.
    """

    preferred_batch_size: ClassVar[int | None] = 8  # it returns whole maps, of which few channels are kept

    def __init__(self, fused: Source, store: GraphStore | None) -> None:
        self._runtime = require_onnx("running a source in ONNX Runtime")
        self._fused, self._network, self._store = fused, fused.network, store
        self._taps: list[str] = []
        self._session: Any = None
        self._options = self._runtime.RunOptions()
        self._options.only_execute_path_to_fetches = True
        self.register_taps([tap.name for tap in fused.taps])

    def __deepcopy__(self, _memo: object) -> OnnxBackend:
        return self  # a session cannot be copied, and a copy would give the same outputs

    def register_taps(self, taps: Collection[str]) -> None:
        """Get ready to return these maps. A tap that is not among the source's own needs a new graph: seconds.

        Raises:
            SnowError: there is no such tap, or ONNX Runtime cannot run the CNN.
        """
        if missing := sorted(set(taps).difference(self._taps)):
            all_taps = [*self._taps, *missing]
            self._network.register_taps(all_taps)
            self._session, self._taps = self._open_session(all_taps), all_taps

    def run(self, x: Tensor, taps: Sequence[str], final: bool) -> NetworkOutput:
        names = [*taps, *((FINAL, LOGITS) if final else ())]
        outputs = self._session.run(names, {INPUT: x.contiguous().numpy()}, self._options) if names else []
        tensors = dict(zip(names, map(torch.from_numpy, outputs), strict=True))
        nothing = x.new_empty(len(x), 0)
        return NetworkOutput(
            {tap: tensors[tap] for tap in taps}, tensors.get(FINAL, nothing), tensors.get(LOGITS, nothing)
        )

    def _open_session(self, taps: Sequence[str]) -> Any:
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch needs these cores too
        if not getattr(
            torch.cpu, "_is_vnni_supported", bool
        )():  # without VNNI, sums of two products can overflow 16 bits
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            return self._runtime.InferenceSession(self._graph(taps), options, providers=["CPUExecutionProvider"])
        except SnowError:
            raise
        except Exception as error:  # ONNX Runtime and its tools raise exceptions of their own
            raise SnowError(f"{self._fused.name} cannot be run in ONNX Runtime: {first_line(error)}") from error

    def _graph(self, taps: Sequence[str]) -> bytes:
        """Export the CNN, in 8 bits if there is a store, which may have it already."""
        if self._store is not None and (kept := self._store.load(taps)) is not None:
            return kept
        fused = self._fused
        pictures = fused.preprocessing.normalize(example(fused)).expand(2, -1, -1, -1).contiguous()
        module = _AllOutputs(self._network, fused.cnn, taps).eval()
        program = onnx_program(fused.name, module, pictures, INPUT, [*taps, FINAL, LOGITS])
        content = program.model_proto.SerializeToString()
        if self._store is not None:
            content = _quantize(fused, content)
            self._store.save(taps, content)
        return content


class _AllOutputs(nn.Module):
    """Normalised pictures (B, 3, S, S) -> all maps, final features, logits.

    `cnn` is the network's own: a module must own the weights that it is exported with.
    """

    def __init__(self, network: Network, cnn: nn.Module, taps: Sequence[str]) -> None:
        super().__init__()
        self.network, self.cnn, self.taps = network, cnn, taps

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        maps, final, logits = self.network.run(pictures, self.taps, final=True)
        return (*maps.values(), final, logits)


def onnx_source(source: Source, int8: bool = False, folder: Path | None = None) -> Source:
    """Copy a source whose network ONNX Runtime runs; its features are the same up to rounding.

    With `int8`, weights have 8 bits (one scale per channel), and so do maps (one scale and zero point per map). The
    scales of the maps come from photographs that are installed with this package. They depend on the source alone, so
    that a task trained on such a source meets the same features wherever it is served.

    Args:
        folder: keeps the calibrated source, see `GraphStore`; by default the cache folder.

    Raises:
        SnowError: ONNX Runtime is not installed, the source is not on a CPU, or its CNN cannot be exported.
    """
    if next(source.buffers()).device.type != "cpu":
        raise SnowError("ONNX Runtime runs a source on the CPU: leave the device out, or choose another engine")
    fused = fuse_for_inference(source)
    store = GraphStore(cache_folder() / "int8" if folder is None else folder, source.fingerprint) if int8 else None
    fused.network = OnnxBackend(fused, store)
    return fused


def source_for_precision(source: Source, precision: str) -> Source:
    """Prepare a source for training: fused, and in 8 bits if the `precision` of the recipe is "int8".

    Raises:
        SnowError: as `onnx_source`.
    """
    return onnx_source(source, int8=True) if precision == "int8" else fuse_for_inference(source)


def _quantize(fused: Source, content: bytes) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    reader: Any = _CalibrationReader(fused.preprocessing.normalize(photographs(fused.preprocessing)))
    with tempfile.TemporaryDirectory(prefix="snow-") as folder, quiet_exporters():
        path, prepared, quantized = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "int8"))
        path.write_bytes(content)
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            reader,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=PRODUCTS if fused.gives_tokens else None,
        )
        return quantized.read_bytes()


class _CalibrationReader:
    """Hands pictures to ONNX Runtime's calibration one at a time."""

    def __init__(self, pictures: Tensor) -> None:
        self._pictures = iter(pictures.split(1))

    def get_next(self) -> dict[str, Any] | None:
        picture = next(self._pictures, None)
        return None if picture is None else {INPUT: picture.contiguous().numpy()}


class OnnxEngine(AutoEngine):
    """Runs the source in ONNX Runtime in single precision, on a CPU. Takes seconds to start, none to add a task."""

    name: ClassVar[str] = "onnx"

    def __init__(self, source: Source, folder: Path | None = None) -> None:
        require_onnx(f"engine {self.name}")
        super().__init__(source, folder)

    def prepare(self, source: Source) -> Source:
        return onnx_source(source)


class Int8Engine(AutoEngine):
    """Runs the source in ONNX Runtime in 8 bits and the methods in single precision, on a CPU; see `onnx_source`.

    Logits differ a little from those of the other engines: measure a task with `snow eval --precision int8` first.
    """

    name: ClassVar[str] = "int8"
    exact: ClassVar[bool] = False

    def __init__(self, source: Source, folder: Path | None = None) -> None:
        require_onnx(f"engine {self.name}")
        super().__init__(source, folder)

    def prepare(self, source: Source) -> Source:
        return onnx_source(source, int8=True, folder=self.folder)
