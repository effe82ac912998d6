"""Which feature maps a CNN offers: asked of the model by one dry run, never read off its name.

A *block* is what a CNN repeats: a residual unit, an inverted bottleneck, a dense layer, a Fire or Inception
module; in a plain chain such as VGG, each convolution with the normalisation and activation behind it. Its tap is
its output, except inside an inverted bottleneck: that block ends in a narrow linear projection, and what is
worth subscribing to is the wide map that its depthwise convolution makes (after normalisation, activation and
squeeze-and-excitation).
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

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LAYERS = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Tap:
    """A feature map of the source: the module that gives it, its channels, its stride in input pixels."""

    name: str
    channels: int
    stride: int
    block: str


@dataclass(frozen=True)
class _Output:
    """What one module gave in the dry run, and when: a map, or a transformer's tokens."""

    order: int
    name: str
    module: nn.Module
    shape: tuple[int, ...]

    @property
    def is_map(self) -> bool:
        """(B, C, H, W) of a square picture; with channels behind space it would not be square."""
        return len(self.shape) == 4 and self.shape[2] == self.shape[3]


def discover(model: nn.Module, image_size: int) -> tuple[Tap, ...]:
    """The taps of `model` in the order in which it computes them, by a dry run on one `image_size` picture.

    Raises:
        SnowError: no block of the model gives a (B, C, H, W) map, or it takes no pictures of this size.
    """
    outputs = _dry_run(model, image_size)
    blocks = [outputs[name] for name in _blocks(model) if name in outputs and outputs[name].shape[-1] > 1]
    if any(_layer_count(block.module) > 1 for block in blocks):
        blocks = [block for block in blocks if _layer_count(block.module) > 1]
    blocks = [block for block in blocks if block.is_map]
    tapped = sorted(((_tapped(block, outputs), block.name) for block in blocks), key=lambda pair: pair[0].order)
    taps = tuple(_tap(output, block, image_size) for output, block in tapped)
    if not taps:
        raise SnowError(f"{type(model).__name__} offers no feature map to subscribe to: is it a CNN?")
    return taps


def choose(
    model: nn.Module,
    discovered: Sequence[Tap],
    image_size: int,
    names: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> tuple[Tap, ...]:
    """The taps named by hand (shell patterns over `discovered`, or any module of the model), less `without`.

    They come in the order in which the model computes them.

    Raises:
        SnowError: a name or pattern matches nothing, names a module without a map, or nothing is left.
    """
    known = {tap.name: tap for tap in discovered}
    chosen = known if names is None else {}
    outputs = {} if names is None else _dry_run(model, image_size)
    for pattern in names or ():
        matched = {name: tap for name, tap in known.items() if fnmatchcase(name, pattern)}
        if not matched:
            if pattern not in outputs or not outputs[pattern].is_map:
                raise SnowError(f"no tap {pattern!r}: there are {', '.join(known)}")
            matched = {pattern: _tap(outputs[pattern], pattern, image_size)}
        chosen = chosen | matched
    for pattern in without:
        if not any(fnmatchcase(name, pattern) for name in chosen):
            raise SnowError(f"no tap {pattern!r} to leave out: there are {', '.join(chosen)}")
        chosen = {name: tap for name, tap in chosen.items() if not fnmatchcase(name, pattern)}
    if not chosen:
        raise SnowError("every tap was left out: keep at least one")
    return tuple(sorted(chosen.values(), key=lambda tap: outputs[tap.name].order) if outputs else chosen.values())


def _tap(output: _Output, block: str, image_size: int) -> Tap:
    """Unpadded convolutions leave maps a little smaller than the stride says: the nearest power of two is meant."""
    return Tap(output.name, output.shape[1], 2 ** round(math.log2(image_size / output.shape[-1])), block)


@torch.no_grad()
def _dry_run(model: nn.Module, image_size: int) -> dict[str, _Output]:
    """Every module that gives a map or tokens, by name, with the order in which it first did.

    Raises:
        SnowError: the model takes no pictures of this size.
    """
    outputs: dict[str, _Output] = {}

    def listen(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim >= 3 and name not in outputs:
                outputs[name] = _Output(len(outputs), name, module, tuple(output.shape))

        return module.register_forward_hook(record)

    handles = [listen(name, module) for name, module in model.named_modules() if name]
    try:
        some = next(iter(model.state_dict().values()))
        model.eval()(torch.zeros(1, 3, image_size, image_size, device=some.device))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SnowError(
            f"{type(model).__name__} cannot take pictures of {image_size} pixels: {error} (another image size may do)"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _blocks(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Names of the blocks: walks down through containers and through modules that only line up blocks."""
    if prefix and not isinstance(module, CONTAINERS) and not _lines_up_blocks(module):
        yield prefix
        return
    for name, child in module.named_children():
        if _layer_count(child):
            yield from _blocks(child, f"{prefix}.{name}" if prefix else name)


def _lines_up_blocks(module: nn.Module) -> bool:
    """True for a stage: its units, each of several layers, repeat one class or are all that it has."""
    units = [unit for unit in _units(module) if _layer_count(unit)]
    several = Counter(type(unit) for unit in units if _layer_count(unit) > 1)
    return bool(several) and (max(several.values()) > 1 or several.total() == len(units))


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """The children of `module`, looking through containers."""
    for child in module.children():
        if isinstance(child, CONTAINERS):
            yield from _units(child)
        else:
            yield child


def _layer_count(module: nn.Module) -> int:
    return sum(isinstance(part, LAYERS) for part in module.modules())


def _tapped(block: _Output, outputs: dict[str, _Output]) -> _Output:
    """The output to subscribe to in `block`: its own, or the wide one inside an inverted bottleneck."""
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
    """The map of `conv` after the normalisation, activation and attention that follow it."""
    best = conv
    for output in sorted(later, key=lambda output: output.order):
        if output.shape == conv.shape and not isinstance(output.module, (*LAYERS, nn.Identity)):
            best = output
        elif isinstance(output.module, nn.Conv2d) and output.shape[-1] == conv.shape[-1]:
            break
    return best
