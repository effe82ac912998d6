"""A source whose passes ONNX Runtime makes, in single precision or in 8 bits, for CPUs."""

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
from snow.inference.fused import FusedEngine, example, fuse_for_inference
from snow.inference.onnx_tools import first_line, onnx_program, quiet_exporters, require_onnx
from snow.source import Preprocessing, Source
from snow.source.network import FINAL, LOGITS, Network, NetworkOutput

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
"""People, animals, things, places, textures."""

CROPS = ((0.0, 0.0, 1.0), (0.0, 0.0, 0.5), (0.5, 0.5, 0.5), (0.25, 0.25, 0.5))
"""Top, left and side of square parts, of the short side."""


def photographs(preprocessing: Preprocessing) -> Tensor:
    """(44, 3, S, S) of uint8: square parts of each, as large as the source takes them."""
    size = [preprocessing.image_size] * 2
    found = []
    for name in PHOTOGRAPHS:
        package, _, rest = name.partition("/")
        with Image.open(Path(str(files(package))) / rest) as picture:
            pixels = pil_to_tensor(picture.convert("RGB"))
        short = min(pixels.shape[-2:])
        for square in CROPS:
            top, left, side = (round(part * short) for part in square)
            found.append(resized_crop(pixels, top, left, side, side, size, antialias=True))
    return torch.stack(found)


INPUT = "pictures"
"""What no tap is called."""


class OnnxBackend(Network):
    """Runs no more of its graph than what is wanted needs.

    Args:
        light: the source whose CNN it writes as a graph, and takes the place of.
    """

    preferred_batch_size: ClassVar[int | None] = 8  # it gives whole maps, of which few channels stay

    def __init__(self, light: Source, int8: bool) -> None:
        self._runtime = require_onnx("running a source in ONNX Runtime")
        self._light, self._cnn, self._int8 = light, light.network, int8
        self._taps: list[str] = []
        self._session: Any = None
        self._options = self._runtime.RunOptions()
        self._options.only_execute_path_to_fetches = True
        self.register_taps([tap.name for tap in light.taps])

    def __deepcopy__(self, _memo: object) -> OnnxBackend:
        return self  # a session cannot be copied, and copies answer alike

    def register_taps(self, taps: Collection[str]) -> None:
        """For maps that the source does not offer by itself the graph is made anew, which takes seconds.

        Raises:
            SnowError: there is no such tap, or ONNX Runtime cannot run the CNN.
        """
        if missing := sorted(set(taps).difference(self._taps)):
            known = [*self._taps, *missing]
            self._cnn.register_taps(known)
            self._session, self._taps = self._opened(known), known

    def run(self, x: Tensor, taps: Sequence[str], final: bool) -> NetworkOutput:
        names = [*taps, *((FINAL, LOGITS) if final else ())]
        found = self._session.run(names, {INPUT: x.contiguous().numpy()}, self._options) if names else []
        tensors = dict(zip(names, map(torch.from_numpy, found), strict=True))
        nothing = x.new_empty(len(x), 0)
        return NetworkOutput(
            {tap: tensors[tap] for tap in taps}, tensors.get(FINAL, nothing), tensors.get(LOGITS, nothing)
        )

    def _opened(self, taps: Sequence[str]) -> Any:
        light = self._light
        pictures = light.preprocessing.normalize(example(light)).expand(2, -1, -1, -1).contiguous()
        everything = _Everything(self._cnn, light.cnn, taps).eval()
        program = onnx_program(light.name, everything, pictures, INPUT, [*taps, FINAL, LOGITS])
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch wants these cores as well
        if not getattr(torch.cpu, "_is_vnni_supported", bool)():  # then sums of two products can overflow 16 bits
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            content = program.model_proto.SerializeToString()
            if self._int8:
                content = _quantized(light, content)
            return self._runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its tools have exceptions of their own
            raise SnowError(f"{light.name} cannot be run in ONNX Runtime: {first_line(error)}") from error


class _Everything(nn.Module):
    """Normalised pictures -> all maps, final features, logits. `cnn` is the network's: a module owns its weights."""

    def __init__(self, network: Network, cnn: nn.Module, taps: Sequence[str]) -> None:
        super().__init__()
        self.network, self.cnn, self.taps = network, cnn, taps

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        maps, final, logits = self.network.run(pictures, self.taps, final=True)
        return (*maps.values(), final, logits)


def onnx_source(source: Source, int8: bool = False) -> Source:
    """A source that gives the same features, but for rounding.

    With `int8`, weights (a scale for each channel) and maps (a scale and a zero for each map) are bytes. The scales of
    maps come from photographs that are installed with this package: they depend on the source and on nothing else, so
    that a task which was trained on such a source meets the same one wherever it is served.

    Raises:
        SnowError: ONNX Runtime is not installed, the source is not on a CPU, or its CNN cannot be exported.
    """
    if next(source.buffers()).device.type != "cpu":
        raise SnowError("ONNX Runtime runs a source on the CPU: leave the device out, or take another engine")
    light = fuse_for_inference(source)
    light.network = OnnxBackend(light, int8)
    return light


def source_for_precision(source: Source, precision: str) -> Source:
    """The source as training runs it: light, and in 8 bits with precision `int8`, as in `Recipe`.

    Raises:
        SnowError: as `onnx_source`.
    """
    return onnx_source(source, int8=True) if precision == "int8" else fuse_for_inference(source)


def _quantized(light: Source, content: bytes) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    reader: Any = _Reader(light.preprocessing.normalize(photographs(light.preprocessing)))
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
        )
        return quantized.read_bytes()


class _Reader:
    """Pictures for the calibration, one at a time."""

    def __init__(self, pictures: Tensor) -> None:
        self._left = iter(pictures.split(1))

    def get_next(self) -> dict[str, Any] | None:
        picture = next(self._left, None)
        return None if picture is None else {INPUT: picture.contiguous().numpy()}


class OnnxEngine(FusedEngine):
    """In single precision, on a CPU. Its first pass takes seconds; tasks that come and go cost nothing there."""

    name: ClassVar[str] = "onnx"

    def __init__(self, source: Source) -> None:
        require_onnx(f"engine {self.name}")
        super().__init__(source)

    def prepare(self, source: Source) -> Source:
        return onnx_source(source)


class Int8Engine(FusedEngine):
    """Weights and maps of the source are bytes, see `onnx_source`; what answers stays in single precision. On a CPU.

    Its answers are not quite those of the others: measure a task with it before you rely on it.
    """

    name: ClassVar[str] = "int8"
    exact: ClassVar[bool] = False

    def __init__(self, source: Source) -> None:
        require_onnx(f"engine {self.name}")
        super().__init__(source)

    def prepare(self, source: Source) -> Source:
        return onnx_source(source, int8=True)
