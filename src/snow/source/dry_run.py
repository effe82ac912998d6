"""One pass of a model over one picture, of which the shapes of all modules' outputs are kept."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from snow.errors import SnowError
from snow.source.layout import Layout, find_layout, first_tensor


@dataclass(frozen=True)
class Output:
    """The output of one module in the dry run: a map, or the tokens of a transformer.

    Attributes:
        order: position of the module in the order of execution.
        shape: of the tensor, for one picture; empty for a dict of several.
        layout: how to make a map of it; None: it is a map, or none at all.
        is_sum: whether the module computes it itself from what its children give, as a residual block does.
    """

    order: int
    name: str
    module: nn.Module
    shape: tuple[int, ...]
    layout: Layout | None = None
    is_sum: bool = False

    @property
    def is_map(self) -> bool:
        """Whether it is a square (B, N, H, W), or can be laid out as one."""
        return self.layout is not None or (len(self.shape) == 4 and self.shape[2] == self.shape[3])

    @property
    def channels(self) -> int:
        """N."""
        return self.shape[1] if self.layout is None else self.shape[-1]

    @property
    def side(self) -> int:
        """H; 0 for what is no map."""
        return (self.shape[-1] if self.is_map else 0) if self.layout is None else self.layout.side


@torch.no_grad()
def dry_run(model: nn.Module, image_size: int) -> dict[str, Output]:
    """Run the model once and describe the first output of every module that gives a map or tokens, by name.

    What gives a tuple is no block, unless the model has `blocks_give_tuples`.

    Raises:
        SnowError: the model takes no pictures of this size, or none of three channels.
    """
    opens_tuples = bool(getattr(model, "blocks_give_tuples", False))
    outputs: dict[str, Output] = {}
    sides: set[int] = set()
    tensors: dict[str, Tensor] = {}  # of modules whose parent has not returned yet
    children = {name: list(_children(name, module)) for name, module in _named(model)}

    def record(name: str, module: nn.Module, output: Tensor, passes_on: bool) -> None:
        parts = [tensors.pop(child) for child in children[name] if child in tensors]
        if not passes_on:
            tensors[name] = output
        if name in outputs:
            return
        shape = tuple(output.shape)
        layout = find_layout(shape, _mixes_last(module), sides)
        is_sum = layout is not None and bool(parts) and not any(_same_memory(output, part) for part in parts)
        outputs[name] = Output(len(outputs), name, module, shape, layout, is_sum)
        if len(shape) == 4 and outputs[name].is_map:
            sides.add(outputs[name].side)

    def hook(name: str) -> Any:
        def recorded(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if isinstance(output, Mapping) and name not in outputs:
                outputs[name] = Output(len(outputs), name, module, ())
            first = first_tensor(output) if opens_tuples else output
            if isinstance(first, Tensor) and first.ndim >= 3:
                record(name, module, first, any(first is value for value in inputs))

        return recorded

    device = next(iter(model.state_dict().values())).device
    with hooked([module.register_forward_hook(hook(name)) for name, module in _named(model)]):
        run(model, torch.zeros(1, 3, image_size, image_size, device=device))
    return outputs


@torch.no_grad()
def run(model: nn.Module, pictures: Tensor) -> Tensor:
    """Run a model in eval mode. Raises SnowError: it takes no such pictures."""
    try:
        return model.eval()(pictures)
    except (RuntimeError, AssertionError, ValueError) as error:
        _require_three_channels(model)
        reason = str(error).partition("\n")[0].rstrip(".")
        raise SnowError(
            f"{model._get_name()} cannot take pictures of {pictures.shape[-1]} pixels: {reason} "
            "(try another image size)"
        ) from error


def noise(image_size: int, device: torch.device) -> Tensor:
    """Draw a normalised picture of noise, (1, 3, S, S), always the same."""
    drawn = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    return drawn.to(device)


@contextmanager
def hooked(handles: list[RemovableHandle]) -> Generator[None]:
    """Remove hooks at the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _named(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if name]


def _children(name: str, module: nn.Module) -> Iterator[str]:
    """Iterate over the names of the modules that a module calls, looking into lists of modules."""
    for child_name, child in module.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _children(f"{name}.{child_name}", child)
        else:
            yield f"{name}.{child_name}"


def _mixes_last(module: nn.Module) -> bool:
    """Whether a module has linear layers, which mix the last dimension, and no convolution, which mixes the second."""
    kinds = {type(part) for part in module.modules()}
    return any(issubclass(kind, nn.Linear) for kind in kinds) and not any(issubclass(kind, nn.Conv2d) for kind in kinds)


def _same_memory(output: Tensor, part: Tensor) -> bool:
    """Whether one tensor is the other, or a view of it; on the meta device too, where addresses are zero."""
    return output.untyped_storage()._cdata == part.untyped_storage()._cdata


def _require_three_channels(model: nn.Module) -> None:
    """Raise SnowError if the first convolution reads pictures of another number of channels than three."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != 3:
        raise SnowError(
            f"{model._get_name()} reads pictures of {first.in_channels} channels: a source reads RGB, three channels"
        )
