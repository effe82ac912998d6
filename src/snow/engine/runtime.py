"""A source whose passes ONNX Runtime makes, in single precision or in 8 bits: on a CPU, several times as fast."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snow.engine.exporting import quiet_exporters, require_onnx
from snow.engine.light import example, light_source
from snow.engine.photographs import photographs
from snow.errors import SnowError
from snow.network import Network, Seen
from snow.source import Source

INPUT, FINAL, LOGITS = "pictures", "(final)", "(logits)"
"""What no tap is called."""


class Runtime(Network):
    """Runs no more of its graph than what is wanted needs.

    Args:
        light: the source whose CNN it writes as a graph, and takes the place of.
    """

    def __init__(self, light: Source, int8: bool) -> None:
        self._runtime = require_onnx("running a source in ONNX Runtime")
        self._light, self._cnn, self._int8 = light, light.network, int8
        self._taps: list[str] = []
        self._options = self._runtime.RunOptions()
        self._options.only_execute_path_to_fetches = True
        self.listen([tap.name for tap in light.taps])

    def __deepcopy__(self, _memo: object) -> Runtime:
        return self  # nothing in it changes

    def listen(self, taps: Collection[str]) -> None:
        """For maps that the source does not offer by itself the graph is made anew, which takes seconds."""
        if missing := sorted(set(taps).difference(self._taps)):
            self._cnn.listen([*self._taps, *missing])
            self._taps += missing
            self._session = self._opened()

    def run(self, x: Tensor, taps: Sequence[str], final: bool) -> Seen:
        names = [*taps, *((FINAL, LOGITS) if final else ())]
        found = self._session.run(names, {INPUT: x.contiguous().numpy()}, self._options) if names else []
        tensors = dict(zip(names, map(torch.from_numpy, found), strict=True))
        nothing = x.new_empty(len(x), 0)
        return Seen({tap: tensors[tap] for tap in taps}, tensors.get(FINAL, nothing), tensors.get(LOGITS, nothing))

    def _opened(self) -> Any:
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch wants these cores as well
        with tempfile.TemporaryDirectory(prefix="snow-") as folder:
            path = Path(folder) / "source.onnx"
            self._write(path)
            content = (_quantized(self._light, path) if self._int8 else path).read_bytes()
        return self._runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def _write(self, path: Path) -> None:
        pictures = self._light.preprocessing.normalize(example(self._light)).expand(2, -1, -1, -1)
        try:
            with quiet_exporters(), torch.no_grad():
                torch.onnx.export(
                    _Everything(self._cnn, self._light.cnn, self._taps).eval(),
                    (pictures.contiguous(),),
                    path,
                    input_names=[INPUT],
                    output_names=[*self._taps, FINAL, LOGITS],
                    dynamic_shapes=({0: torch.export.Dim("batch")},),
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                )
        except torch.onnx.errors.OnnxExporterError as error:
            why = str(error).strip().splitlines()[0]
            raise SnowError(f"{self._light.name} cannot be exported to ONNX: {why}") from error


class _Everything(nn.Module):
    """Normalised pictures -> all maps, final features, logits. `cnn` is the network's: a module owns its weights."""

    def __init__(self, network: Network, cnn: nn.Module, taps: Sequence[str]) -> None:
        super().__init__()
        self.network, self.cnn, self.taps = network, cnn, taps

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        maps, final, logits = self.network.run(pictures, self.taps, final=True)
        return (*maps.values(), final, logits)


def runtime_source(source: Source, int8: bool = False) -> Source:
    """A source that gives the same features, but for rounding.

    With `int8`, weights (a scale for each channel) and maps (a scale and a zero for each map) are bytes. The scales of
    maps come from photographs that are installed with this package: they depend on the source and on nothing else, so
    that a task which was trained on such a source meets the same one wherever it is served.

    Raises:
        SnowError: ONNX Runtime is not installed, the source is not on a CPU, or its CNN cannot be exported.
    """
    if next(source.buffers()).device.type != "cpu":
        raise SnowError("ONNX Runtime runs a source on the CPU: leave the device out, or take another engine")
    light = light_source(source)
    light.network = Runtime(light, int8)
    return light


def source_in(source: Source, precision: str) -> Source:
    """The source as training runs it: light, and in 8 bits with precision `int8`, as in `Recipe`.

    Raises:
        SnowError: as `runtime_source`.
    """
    return runtime_source(source, int8=True) if precision == "int8" else light_source(source)


def _quantized(light: Source, path: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, quantized = path.with_name("prepared.onnx"), path.with_name("int8.onnx")
    pictures = light.preprocessing.normalize(photographs(light.preprocessing))
    reader: Any = _Reader(pictures)
    with quiet_exporters():
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            reader,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return quantized


class _Reader:
    """Pictures for the calibration, one at a time."""

    def __init__(self, pictures: Tensor) -> None:
        self._left = iter(pictures.split(1))

    def get_next(self) -> dict[str, Any] | None:
        picture = next(self._left, None)
        return None if picture is None else {INPUT: picture.contiguous().numpy()}
