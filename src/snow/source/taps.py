"""The feature maps that a CNN offers, found by a dry run of the model and never by its name.

A *block* is the unit that a CNN repeats: a residual unit, an inverted bottleneck, a dense layer, a Fire or Inception
module; in a plain chain such as VGG, each convolution with the normalisation and activation behind it. The *tap* of a
block is its output. An inverted bottleneck ends in a narrow linear projection, so its tap is the wide map of its
depthwise convolution, after normalisation, activation and squeeze-and-excitation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.source.network import global_average

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LAYERS = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Tap:
    """A feature map of the source.

    Attributes:
        name: module whose output it is.
        channels: N.
        stride: in pixels of the picture.
        block: the block that it belongs to.
    """

    name: str
    channels: int
    stride: int
    block: str


@dataclass(frozen=True)
class _Output:
    """The output of one module in the dry run: a map, or the tokens of a transformer.

    Attributes:
        order: position of the module in the order of execution.
    """

    order: int
    name: str
    module: nn.Module
    shape: tuple[int, ...]

    @property
    def is_map(self) -> bool:
        """Whether it is a square (B, N, H, W). A map with channels last, (B, H, W, N), is not square in H and W."""
        return len(self.shape) == 4 and self.shape[2] == self.shape[3]


def discover(model: nn.Module, image_size: int) -> tuple[Tap, ...]:
    """Find the taps of a CNN by a dry run on one picture, in the order of execution.

    Raises:
        SnowError: no block of the model gives a (B, N, H, W) map, or it takes no pictures of this size.
    """
    outputs = _dry_run(model, image_size)
    blocks = [outputs[name] for name in _blocks(model) if name in outputs and outputs[name].shape[-1] > 1]
    if any(_layer_count(block.module) > 1 for block in blocks):
        blocks = [block for block in blocks if _layer_count(block.module) > 1]
    blocks = [block for block in blocks if block.is_map]
    tapped = sorted(((_tapped_output(block, outputs), block.name) for block in blocks), key=lambda pair: pair[0].order)
    taps = tuple(_make_tap(output, block, image_size) for output, block in tapped)
    if not taps:
        raise SnowError(f"{type(model).__name__} offers no feature map to subscribe to: is it a CNN?")
    return taps


def select_taps(
    model: nn.Module,
    discovered: Sequence[Tap],
    image_size: int,
    names: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> tuple[Tap, ...]:
    """Select taps by name, in the order of execution.

    Args:
        discovered: the result of `discover`.
        names: shell patterns over `discovered`, or names of any modules of the model; None: all discovered ones.
        without: shell patterns of taps to leave out.

    Raises:
        SnowError: a name or pattern matches nothing, names a module without a map, or nothing is left.
    """
    known = {tap.name: tap for tap in discovered}
    selected = known if names is None else {}
    outputs = {} if names is None else _dry_run(model, image_size)
    for pattern in names or ():
        matched = {name: tap for name, tap in known.items() if fnmatchcase(name, pattern)}
        if not matched:
            if pattern not in outputs or not outputs[pattern].is_map:
                raise SnowError(f"no tap {pattern!r}: there are {', '.join(known)}")
            matched = {pattern: _make_tap(outputs[pattern], pattern, image_size)}
        selected = selected | matched
    for pattern in without:
        if not any(fnmatchcase(name, pattern) for name in selected):
            raise SnowError(f"no tap {pattern!r} to leave out: there are {', '.join(selected)}")
        selected = {name: tap for name, tap in selected.items() if not fnmatchcase(name, pattern)}
    if not selected:
        raise SnowError("every tap was left out: keep at least one")
    return tuple(sorted(selected.values(), key=lambda tap: outputs[tap.name].order) if outputs else selected.values())


def find_classifier(cnn: nn.Module, image_size: int) -> tuple[str, int, int] | None:
    """Find the last layer whose output has the shape of the logits: its name, D, and C; None if there is none."""
    calls: list[tuple[str, Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda _m, inputs, output, name=name: calls.append((name, inputs[0], output)))
        for name, module in cnn.named_modules()
        if isinstance(module, LAYERS)
    ]
    with torch.no_grad():
        logits = cnn.eval()(torch.zeros(1, 3, image_size, image_size))
    for handle in handles:
        handle.remove()
    for name, x, y in reversed(calls):
        if global_average(y).shape == logits.shape:
            return name, global_average(x).shape[1], logits.shape[1]
    return None


def _make_tap(output: _Output, block: str, image_size: int) -> Tap:
    """Make a tap with its stride, a power of two: unpadded convolutions give maps a little smaller than S / stride."""
    return Tap(output.name, output.shape[1], 2 ** round(math.log2(image_size / output.shape[-1])), block)


@torch.no_grad()
def _dry_run(model: nn.Module, image_size: int) -> dict[str, _Output]:
    """Run the model once and record the first output of every module that gives a map or tokens, by name.

    Raises:
        SnowError: the model takes no pictures of this size.
    """
    outputs: dict[str, _Output] = {}

    def add_hook(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim >= 3 and name not in outputs:
                outputs[name] = _Output(len(outputs), name, module, tuple(output.shape))

        return module.register_forward_hook(record)

    handles = [add_hook(name, module) for name, module in model.named_modules() if name]
    try:
        device = next(iter(model.state_dict().values())).device
        model.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SnowError(
            f"{type(model).__name__} cannot take pictures of {image_size} pixels: {error} (try another image size)"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _blocks(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Iterate over the names of the blocks, looking into containers and into modules that are sequences of blocks."""
    if prefix and not isinstance(module, CONTAINERS) and not _is_stage(module):
        yield prefix
        return
    for name, child in module.named_children():
        if _layer_count(child):
            yield from _blocks(child, f"{prefix}.{name}" if prefix else name)


def _is_stage(module: nn.Module) -> bool:
    """Whether a module is a sequence of blocks: its units of several layers repeat one class, or are all it has."""
    units = [unit for unit in _units(module) if _layer_count(unit)]
    several = Counter(type(unit) for unit in units if _layer_count(unit) > 1)
    return bool(several) and (max(several.values()) > 1 or several.total() == len(units))


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Iterate over the children of `module`, looking into containers."""
    for child in module.children():
        if isinstance(child, CONTAINERS):
            yield from _units(child)
        else:
            yield child


def _layer_count(module: nn.Module) -> int:
    return sum(isinstance(submodule, LAYERS) for submodule in module.modules())


def _tapped_output(block: _Output, outputs: dict[str, _Output]) -> _Output:
    """Find the output to subscribe to in a block: its own, or the wide one inside an inverted bottleneck."""
    if isinstance(block.module, nn.Conv2d):
        return _refined(block, [output for output in outputs.values() if output.order > block.order])
    inside = [output for name, output in outputs.items() if name.startswith(f"{block.name}.")]
    wide = [output for output in inside if _is_wide_depthwise(output, block)]
    if not wide:
        return block
    widest = max(wide, key=lambda output: output.shape[1])
    return _refined(widest, [output for output in inside if output.order > widest.order])


def _is_wide_depthwise(output: _Output, block: _Output) -> bool:
    conv = output.module
    return (
        isinstance(conv, nn.Conv2d)
        and conv.groups == conv.in_channels > 1
        and output.shape[1] > block.shape[1]
        and output.shape[2:] == block.shape[2:]
    )


def _refined(conv: _Output, later: Sequence[_Output]) -> _Output:
    """Find the map of `conv` after the normalisation, activation and attention that follow it."""
    refined = conv
    for output in sorted(later, key=lambda output: output.order):
        if output.shape == conv.shape and not isinstance(output.module, (*LAYERS, nn.Identity)):
            refined = output
        elif isinstance(output.module, nn.Conv2d) and output.shape[-1] == conv.shape[-1]:
            break
    return refined
