"""Folding: a BatchNorm that nothing but a convolution feeds is a scale and a shift of that convolution's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from snow.subscribe import FusionConv

CONVOLUTIONS = (nn.Conv2d, FusionConv)
TOLERANCE = 1e-4
"""Of what a folded network gives, beside the largest value before: more than rounding, less than any mistake."""

Network = TypeVar("Network", bound=nn.Module)


Pairs = tuple[tuple[str, str], ...]
"""Names of convolutions and of the BatchNorms that they alone feed."""


def folded(network: Network, run: Callable[[Network], Sequence[Tensor]]) -> Network:
    """As `fold`, with all that `foldable` finds."""
    return fold(network, foldable(network, run))


@torch.no_grad()
def fold(network: Network, pairs: Pairs) -> Network:
    """A copy of a network in eval mode with BatchNorms folded into the convolutions before them. It shares with the
    network the tensors that are the same."""
    lighter = _copied(network)
    for convolution, norm in pairs:
        _fold(lighter.get_submodule(convolution), lighter.get_submodule(norm))
        lighter.set_submodule(norm, _left_of(lighter.get_submodule(norm)))
    return lighter


@torch.no_grad()
def foldable(network: Network, run: Callable[[Network], Sequence[Tensor]]) -> Pairs:
    """What can be folded in a network, and in others of its structure.

    Which convolution feeds which BatchNorm is seen while `run` runs, never read off a name. If the folded network does
    not answer as this one does (because something else, too, looks behind a convolution), it is nothing.

    Args:
        run: answers with the network, on any input.
    """
    before, pairs = _watched(_copied(network), run)
    after = run(fold(network, pairs))
    return pairs if all(_close(one, other) for one, other in zip(after, before, strict=True)) else ()


def _copied(network: Network) -> Network:
    """In eval mode, of the same tensors."""
    tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, tensors).eval()


def _watched(network: Network, run: Callable[[Network], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Pairs]:
    """What `run` gives, and what feeds what meanwhile."""
    made: list[tuple[str, Tensor]] = []
    taken: list[tuple[str, Tensor]] = []
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, CONVOLUTIONS):
            handles.append(module.register_forward_hook(lambda _m, _i, out, name=name: made.append((name, out))))
        elif isinstance(module, _BatchNorm) and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(lambda _m, ins, name=name: taken.append((name, ins[0]))))
    try:
        before = run(network)
    finally:
        for handle in handles:
            handle.remove()
    pairs = [(maker, taker) for maker, out in made for taker, entered in taken if entered is out]
    once = {name for name, _ in made if [other for other, _ in made].count(name) == 1}
    alone = {name for name, _ in taken if [other for other, _ in taken].count(name) == 1}
    return before, tuple((maker, taker) for maker, taker in pairs if maker in once and taker in alone)


def _fold(convolution: nn.Module, norm: nn.Module) -> None:
    assert isinstance(convolution, CONVOLUTIONS)
    assert isinstance(norm, _BatchNorm)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    for name, value in (("weight", weight), ("bias", bias)):
        delattr(convolution, name)
        convolution.register_buffer(name, value.detach())


def _left_of(norm: nn.Module) -> nn.Module:
    """What a BatchNorm does behind its own arithmetic: timm's have dropout and activation inside. Hooks stay."""
    left = nn.Sequential(*norm.children())
    left._forward_hooks, left._forward_pre_hooks = norm._forward_hooks, norm._forward_pre_hooks
    return left


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= TOLERANCE * other.abs().max())


@torch.no_grad()
def pad_evenly(network: nn.Module, run: Callable[[], object]) -> None:
    """Changes a network for maps of the size that it meets in `run`: depthwise convolutions which copy a map to pad it,
    and take longer for that than for all else, give way to such as pad on their own."""
    sizes: dict[str, torch.Size] = {}
    handles = [
        module.register_forward_pre_hook(lambda _m, inputs, name=name: sizes.update({name: inputs[0].shape}))
        for name, module in network.named_modules()
        if isinstance(module, Conv2dSame) and module.groups > 1 and module.dilation == (1, 1)
    ]
    if not handles:
        return
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    for name, size in sizes.items():
        network.set_submodule(name, _even(network.get_submodule(name), size))


def _even(convolution: nn.Module, size: torch.Size) -> nn.Conv2d:
    """Pads as much before a map as behind it, and has as many zeros in front of its kernel as that is too much."""
    assert isinstance(convolution, Conv2dSame)
    sides = zip(size[-2:], convolution.kernel_size, convolution.stride, strict=True)
    pads = [get_same_padding(side, kernel, stride, 1) for side, kernel, stride in sides]
    behind = [pad - pad // 2 for pad in pads]
    top, left = (pad % 2 for pad in pads)
    layout = torch.contiguous_format if convolution.weight.is_contiguous() else torch.channels_last
    weight = nn.functional.pad(convolution.weight, (left, 0, top, 0)).contiguous(memory_format=layout)
    even = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        (weight.shape[-2], weight.shape[-1]),
        (convolution.stride[0], convolution.stride[1]),
        (behind[0], behind[1]),
        groups=convolution.groups,
        device="meta",  # draws no random numbers
    )
    for name, value in (("weight", weight), ("bias", convolution.bias)):
        delattr(even, name)
        even.register_buffer(name, value)
    even._forward_hooks, even._forward_pre_hooks = convolution._forward_hooks, convolution._forward_pre_hooks
    return even
