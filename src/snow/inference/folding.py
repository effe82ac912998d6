"""Folding: a BatchNorm that reads one convolution alone becomes a scale and a shift of that convolution's weights.

With mean m, variance v, scale g and shift b of the BatchNorm, `w' = w g / sqrt(v + eps)` and
`bias' = (bias - m) g / sqrt(v + eps) + b`.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from snow.inference.module_tree import copy_tree, is_tree
from snow.subscribe import FusionConv

CONVOLUTIONS = (nn.Conv2d, FusionConv)
TOLERANCE = 1e-4
"""Largest accepted error of a folded network's outputs, relative to their largest value: above rounding errors."""

Network = TypeVar("Network", bound=nn.Module)

FoldablePairs = tuple[tuple[str, str], ...]
"""Names of a convolution and of the BatchNorm that it alone feeds."""


def fold_all(network: Network, run: Callable[[Network], Sequence[Tensor]]) -> Network:
    """Copy a network with all foldable BatchNorms folded; `run` as in `find_foldable`."""
    return fold(network, find_foldable(network, run))


@torch.no_grad()
def fold(network: Network, pairs: FoldablePairs) -> Network:
    """Copy a network in eval mode with BatchNorms folded. Tensors that do not change are shared with the original."""
    folded = _shallow_copy(network)
    for convolution, norm in pairs:
        _fold(folded.get_submodule(convolution), folded.get_submodule(norm))
        folded.set_submodule(norm, _without_norm(folded.get_submodule(norm)))
    return folded


@torch.no_grad()
def find_foldable(network: Network, run: Callable[[Network], Sequence[Tensor]]) -> FoldablePairs:
    """Find what can be folded in a network, and in every network of the same structure.

    Hooks see which convolution feeds which BatchNorm while `run` runs; names play no role. If the folded network does
    not give the same outputs, because something else reads a convolution's output too, the result is empty.

    Args:
        run: runs the network on any input and returns its outputs.
    """
    before, pairs = _trace(_shallow_copy(network), run)
    after = run(fold(network, pairs))
    return pairs if all(close(output, expected) for output, expected in zip(after, before, strict=True)) else ()


def _shallow_copy(network: Network) -> Network:
    """Copy the modules in eval mode, but not the tensors."""
    if is_tree(network):
        return copy_tree(network).eval()
    tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, tensors).eval()


def _trace(network: Network, run: Callable[[Network], Sequence[Tensor]]) -> tuple[Sequence[Tensor], FoldablePairs]:
    """Return the outputs of `run`, and each convolution with the BatchNorm that reads it, where both run only once."""
    outputs: list[tuple[str, Tensor]] = []
    inputs: list[tuple[str, Tensor]] = []
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, CONVOLUTIONS):
            handles.append(module.register_forward_hook(lambda _m, _i, out, name=name: outputs.append((name, out))))
        elif isinstance(module, _BatchNorm) and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(lambda _m, ins, name=name: inputs.append((name, ins[0]))))
    try:
        before = run(network)
    finally:
        for handle in handles:
            handle.remove()
    pairs = [(convolution, norm) for convolution, out in outputs for norm, entered in inputs if entered is out]
    convolution_runs, norm_runs = (Counter(name for name, _ in calls) for calls in (outputs, inputs))
    once = [(conv, norm) for conv, norm in pairs if convolution_runs[conv] == norm_runs[norm] == 1]
    return before, tuple(once)


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


def _without_norm(norm: nn.Module) -> nn.Module:
    """Keep what a BatchNorm does after normalising (timm's have dropout and activation inside), and its hooks."""
    rest = nn.Sequential(*norm.children())
    rest._forward_hooks, rest._forward_pre_hooks = norm._forward_hooks, norm._forward_pre_hooks
    return rest


def close(output: Tensor, expected: Tensor) -> bool:
    """Whether two outputs are the same up to rounding; NaN is close to nothing."""
    return bool((output - expected).abs().max() <= TOLERANCE * expected.abs().max())


@torch.no_grad()
def pad_evenly(network: nn.Module, run: Callable[[], object]) -> None:
    """Replace depthwise convolutions that pad with a copy of the map by ones with built-in padding, in place.

    The copy takes longer than the convolution itself. The network then works only for maps of the size seen in `run`.
    """
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
        network.set_submodule(name, _evenly_padded(network.get_submodule(name), size))


def _evenly_padded(convolution: nn.Module, size: torch.Size) -> nn.Conv2d:
    """Pad the map equally on both sides, and pad the kernel with zeros in front by the surplus."""
    assert isinstance(convolution, Conv2dSame)
    sides = zip(size[-2:], convolution.kernel_size, convolution.stride, strict=True)
    pads = [get_same_padding(side, kernel, stride, 1) for side, kernel, stride in sides]
    larger_half = [pad - pad // 2 for pad in pads]
    top, left = (pad % 2 for pad in pads)
    layout = torch.contiguous_format if convolution.weight.is_contiguous() else torch.channels_last
    weight = nn.functional.pad(convolution.weight, (left, 0, top, 0)).contiguous(memory_format=layout)
    even = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        (weight.shape[-2], weight.shape[-1]),
        (convolution.stride[0], convolution.stride[1]),
        (larger_half[0], larger_half[1]),
        groups=convolution.groups,
        device="meta",  # draws no random numbers
    )
    for name, value in (("weight", weight), ("bias", convolution.bias)):
        delattr(even, name)
        even.register_buffer(name, value)
    even._forward_hooks, even._forward_pre_hooks = convolution._forward_hooks, convolution._forward_pre_hooks
    return even
