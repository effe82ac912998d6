"""The feature maps that a network offers, found by a dry run of the model and never by its name.

A *block* is the unit that a CNN repeats: a residual unit, an inverted bottleneck, a dense layer, a Fire or Inception
module; in a plain chain such as VGG, each convolution with the normalisation and activation behind it. The *tap* of a
block is its output. An inverted bottleneck ends in a narrow linear projection, so its tap is the wide map of its
depthwise convolution, after normalisation, activation and squeeze-and-excitation.

Blocks of transformers and their kin give tokens or maps with channels last. `snow.source.layout` says how these are
laid out as maps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from snow.errors import SnowError
from snow.source.dry_run import Output, dry_run

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


def discover(model: nn.Module, image_size: int) -> tuple[Tap, ...]:
    """Find the taps of a model by a dry run on one picture, in the order of execution.

    Raises:
        SnowError: no block of the model gives a map or tokens, or it takes no pictures of this size.
    """
    return find_taps(model, dry_run(model, image_size), image_size)


def find_taps(model: nn.Module, outputs: Mapping[str, Output], image_size: int) -> tuple[Tap, ...]:
    """Find the taps among the outputs of a dry run, in the order of execution.

    Raises:
        SnowError: no block of the model gives a map or tokens.
    """
    blocks = [outputs[name] for name in _blocks(model, outputs) if name in outputs and outputs[name].shape[-1] > 1]
    if any(_layer_count(block.module) > 1 for block in blocks):
        blocks = [block for block in blocks if _layer_count(block.module) > 1]
    blocks = [block for block in blocks if block.is_map] or _enclosing(blocks, outputs)
    tapped = sorted(((_tapped_output(block, outputs), block.name) for block in blocks), key=lambda pair: pair[0].order)
    taps = tuple(_make_tap(output, block, image_size) for output, block in tapped)
    if not taps:
        raise SnowError(f"{model._get_name()} offers no feature map to subscribe to: is it an image backbone?")
    return taps


def select_taps(
    outputs: Mapping[str, Output],
    discovered: Sequence[Tap],
    image_size: int,
    names: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> tuple[Tap, ...]:
    """Select taps by name, in the order of execution.

    Args:
        outputs: of the dry run.
        discovered: the result of `find_taps`.
        names: shell patterns over `discovered`, or names of any modules of the model; None: all discovered ones.
        without: shell patterns of taps to leave out.

    Raises:
        SnowError: a name or pattern matches nothing, names a module without a map, or nothing is left.
    """
    known = {tap.name: tap for tap in discovered}
    selected = known if names is None else {}
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
    return tuple(sorted(selected.values(), key=lambda tap: outputs[tap.name].order))


def _make_tap(output: Output, block: str, image_size: int) -> Tap:
    """Make a tap with its stride, a power of two: unpadded convolutions give maps a little smaller than S / stride.

    Patches that do not overlap have any size, such as 14 pixels.
    """
    exact = output.layout is not None and image_size % output.side == 0
    stride = image_size // output.side if exact else 2 ** round(math.log2(image_size / output.side))
    return Tap(output.name, output.channels, stride, block)


def _blocks(module: nn.Module, outputs: Mapping[str, Output], prefix: str = "") -> Iterator[str]:
    """Iterate over the names of the blocks, looking into containers and into modules that are sequences of blocks.

    A module that adds up what its children make of tokens is a block, whatever these are: attention and perceptron of a
    transformer are branches, and not blocks. A module that gives a dict is looked into.
    """
    gives_dict = prefix in outputs and not outputs[prefix].shape
    adds_up = prefix in outputs and outputs[prefix].is_sum
    if prefix and not gives_dict and not isinstance(module, CONTAINERS) and (adds_up or not _is_stage(module)):
        yield prefix
        return
    for name, child in module.named_children():
        if _layer_count(child):
            yield from _blocks(child, outputs, f"{prefix}.{name}" if prefix else name)


def _enclosing(blocks: Sequence[Output], outputs: Mapping[str, Output]) -> list[Output]:
    """Find the smallest modules around blocks that give maps, where the blocks themselves give none."""
    found = {}
    for block in blocks:
        parts = block.name.split(".")
        parents = (outputs.get(".".join(parts[:length])) for length in range(len(parts) - 1, 0, -1))
        around = next((parent for parent in parents if parent is not None and parent.is_map and parent.side > 1), None)
        if around is not None:
            found[around.name] = around
    return list(found.values())


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


def _tapped_output(block: Output, outputs: Mapping[str, Output]) -> Output:
    """Find the output to subscribe to in a block: its own, or the wide one inside an inverted bottleneck."""
    if isinstance(block.module, nn.Conv2d):
        return _refined(block, [output for output in outputs.values() if output.order > block.order])
    inside = [output for name, output in outputs.items() if name.startswith(f"{block.name}.")]
    wide = [output for output in inside if _is_wide_depthwise(output, block)]
    if not wide:
        return block
    widest = max(wide, key=lambda output: output.shape[1])
    return _refined(widest, [output for output in inside if output.order > widest.order])


def _is_wide_depthwise(output: Output, block: Output) -> bool:
    conv = output.module
    return (
        isinstance(conv, nn.Conv2d)
        and conv.groups == conv.in_channels > 1
        and output.shape[1] > block.shape[1]
        and output.shape[2:] == block.shape[2:]
    )


def _refined(conv: Output, later: Sequence[Output]) -> Output:
    """Find the map of `conv` after the normalisation, activation and attention that follow it."""
    refined = conv
    for output in sorted(later, key=lambda output: output.order):
        if output.shape == conv.shape and not isinstance(output.module, (*LAYERS, nn.Identity)):
            refined = output
        elif isinstance(output.module, nn.Conv2d) and output.shape[-1] == conv.shape[-1]:
            break
    return refined
