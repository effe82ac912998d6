"""The trunk: what a source runs up to one map, and the copy of what comes behind that map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snow.source import Source, Tap
from snow.source.dry_run import hooked, noise
from snow.source.layout import first_tensor


def last_map(source: Source, last: Tap, blocks: Sequence[Tap]) -> tuple[str, int, int]:
    """Find the map in front of the stage: its name, its channels, and the stride from it to the stage.

    It is the output of the last block before the stage, even if the tap is a wide map inside that block. If several
    blocks make parts of one map (DenseNet), it is the output of the module that holds them.

    Args:
        last: the last tap before the stage.
        blocks: the taps of the stage, and those behind it.
    """
    shapes = maps_around(source, last, blocks)
    side = next(iter(shapes.values()))[2]
    name = max((name for name in shapes if shapes[name][2] == side), key=lambda name: shapes[name][1])
    own = shapes[name][1]
    return name, own, max(1, round(side / _shapes(source, [blocks[0].name])[blocks[0].name][2]))


def maps_around(source: Source, last: Tap, blocks: Sequence[Tap]) -> dict[str, tuple[int, ...]]:
    """Find the block of the last tap before a stage, and the modules around it that give a map.

    Args:
        last, blocks: as in `last_map`. Modules that hold some of the stage are left out.

    Returns:
        Name -> shape (B, N, H, W), from the innermost one.
    """
    name = last.block if last.name.startswith(f"{last.block}.") else last.name
    parts = name.split(".")
    parents = [".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]
    parents = [parent for parent in parents if not any(tap.block.startswith(f"{parent}.") for tap in blocks)]
    shapes = _shapes(source, [name, *parents])
    return {other: shapes[other] for other in (name, *parents) if other in shapes}


def _shapes(source: Source, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Find the output shapes (B, N, H, W) of modules of the source; those without a map are left out."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add_hook(name: str) -> torch.utils.hooks.RemovableHandle:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            tokens = first_tensor(output)
            if tokens is not None and name in source.layouts:
                shapes[name] = tuple(source.layouts[name].to_map(tokens).shape)
            elif isinstance(output, Tensor) and output.ndim == 4:
                shapes[name] = tuple(output.shape)

        return source.cnn.get_submodule(name).register_forward_hook(record)

    handles = [add_hook(name) for name in names]
    size = source.preprocessing.image_size
    try:
        source(torch.zeros(1, 3, size, size, device=next(source.buffers()).device), taps=())
    finally:
        for handle in handles:
            handle.remove()
    return shapes


@torch.no_grad()
def cut(cnn: nn.Module, name: str, image_size: int) -> None:
    """Cut a CNN behind one map, in place: it computes from the map (B, N, H, W) what it did from pictures.

    Modules that run before the map only, and the one that gives it, pass their input on. So the map can take the place
    of pictures, unless what is behind it reads something else as well.

    Args:
        cnn: in eval mode.
        name: the module whose output is the map.
    """
    before, behind = set[str](), set[str]()
    is_past = False

    def record(other: str) -> None:
        (behind if is_past else before).add(other)

    def pass_map(*_call: object) -> None:
        nonlocal is_past
        is_past = True

    handles = [cnn.get_submodule(name).register_forward_hook(pass_map)]
    for other, module in cnn.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_call, other=other: record(other)))
    with hooked(handles):
        cnn(noise(image_size, next(iter(cnn.state_dict().values())).device))
    passing = {other for other in before - behind if other and not name.startswith(f"{other}.")}
    for other in passing:
        if not any(other.startswith(f"{parent}.") for parent in passing):
            cnn.set_submodule(other, PassOn())


class PassOn(nn.Module):
    """Takes the place of a module that ran before the map: returns its first input."""

    def forward(self, x: Tensor, *_args: object, **_options: object) -> Tensor:
        return x
