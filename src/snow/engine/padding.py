"""TensorFlow's padding: as much as the map asks for, at each call, and behind it more than before it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import nn


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
