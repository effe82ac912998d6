"""Prune a network: of the channels of its chains, keep the few that the layers behind them need most.

The layer that reads them is then fitted again by least squares, so that it makes of the kept channels what it made of
all (ThiNet, Luo et al., 2017; He et al., 2017). What residual sums read stays as wide as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from snow.methods.chains import Chain, is_dense, select
from snow.source.dry_run import hooked

T = TypeVar("T")

PICTURES = 256
"""Pictures that channels are chosen by, and layers fitted again."""

POSITIONS = 8192
"""Positions of maps that a layer is fitted to, of all pictures together."""

RIDGE = 1e-3
"""Penalty of the least squares, relative to the mean square of the inputs."""


@torch.no_grad()
def prune(network: nn.Module, chains: Sequence[Chain], run: Callable[[], Tensor] | None = None) -> None:
    """Leave out channels of each chain, in place: those that vary little, or that the last layer hardly weighs.

    Args:
        network: in eval mode.
        run: runs the network with inputs that say what channels are worth; None: weights alone say that.
    """
    lasts = [chain.last for chain in chains]
    before = {} if run is None else _observe(network, run, lasts, _deviation_and_outputs)
    for chain in chains:
        last = network.get_submodule(chain.last)
        assert is_dense(last)
        score = last.weight.transpose(0, 1).flatten(1).norm(dim=1)
        is_weighed = bool(score.is_meta or score.any())
        if run is not None:
            deviation = before[chain.last][0]
            score = deviation * score if is_weighed else deviation
        select(network, chain, score.topk(chain.kept).indices.sort().values)
        if run is not None and is_weighed:
            inputs = _observe(network, run, [chain.last], lambda _layer, inputs, _outputs: inputs.clone())
            _refit(last, inputs[chain.last], before[chain.last][1])


def _observe(
    network: nn.Module, run: Callable[[], Tensor], names: Sequence[str], read: Callable[[nn.Module, Tensor, Tensor], T]
) -> dict[str, T]:
    """Run a network, and return what `read` makes of some layers, their inputs and their outputs."""
    found: dict[str, T] = {}

    def record(name: str, layer: nn.Module, inputs: tuple, outputs: Tensor) -> None:
        found[name] = read(layer, inputs[0], outputs)

    with hooked([network.get_submodule(name).register_forward_hook(partial(record, name)) for name in names]):
        run()
    return found


def _deviation_and_outputs(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the standard deviation of each input channel, (N,), and some rows of outputs, (P, O)."""
    return _rows(inputs, layer).std(0), _some(_rows(outputs, layer))


def _rows(x: Tensor, layer: nn.Module) -> Tensor:
    """Arrange what a layer reads or makes in rows: (B, C, H, W), or (..., C) of a linear one, -> (P, C)."""
    return (x if isinstance(layer, nn.Linear) else x.movedim(1, -1)).flatten(0, -2)


def _some(rows: Tensor) -> Tensor:
    """Draw up to `POSITIONS` rows, of as many rows always the same."""
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:POSITIONS]
    return rows[chosen.to(rows.device)]


def _refit(layer: nn.Conv2d | nn.Linear, inputs: Tensor, wanted: Tensor) -> None:
    """Fit a layer so that it makes the wanted rows of outputs, (P, O), of its inputs, as far as it can."""
    if isinstance(layer, nn.Linear):
        rows = _rows(inputs, layer)
    elif type(layer) is nn.Conv2d and not isinstance(layer.padding, str):
        rows = unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT.flatten(0, 1)
    else:
        return  # its padding depends on the size of the map
    rows = _some(rows).double()
    if layer.bias is not None:
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
    system = rows.T @ rows
    system += RIDGE * system.diagonal().mean() * torch.eye(len(system), dtype=system.dtype, device=system.device)
    solved = torch.linalg.solve(system, rows.T @ wanted.double()).T.to(layer.weight.dtype)
    if layer.bias is not None:
        layer.bias.copy_(solved[:, -1])
        solved = solved[:, :-1]
    layer.weight.copy_(solved.reshape(layer.weight.shape))
