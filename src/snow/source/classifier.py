"""A source's own classifier, and the tokens of its last features that it does not read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from snow.source.dry_run import Output, hooked, noise, run
from snow.source.layout import Layout, first_tensor
from snow.source.network import FinalTokens, global_average
from snow.source.taps import LAYERS, Tap

CLEARLY = 1.5
"""By how much more a quarter of a map must change with its quarter of the picture than any other quarter."""


class Classifier(NamedTuple):
    """The source's own classifier.

    Attributes:
        layers: the layers that give logits; the last one is what final features are read from. Distilled transformers
            average the logits of two.
        inputs: D.
        classes: C.
    """

    layers: tuple[str, ...]
    inputs: int
    classes: int


def find_classifier(cnn: nn.Module, image_size: int) -> Classifier | None:
    """Find the last layer whose output has the shape of the logits, and others of the same shapes beside it."""
    calls: list[tuple[str, int, Tensor]] = []
    handles = [
        module.register_forward_hook(
            lambda _m, inputs, output, name=name: calls.append((name, global_average(inputs[0]).shape[1], output))
        )
        for name, module in cnn.named_modules()
        if isinstance(module, LAYERS)
    ]
    with torch.no_grad(), hooked(handles):
        logits = cnn.eval()(torch.zeros(1, 3, image_size, image_size))
    found = [(name, width) for name, width, output in calls if global_average(output).shape == logits.shape]
    if not found:
        return None
    last, inputs = found[-1]
    beside = tuple(name for name, width in found if width == inputs and _is_beside(name, last))
    return Classifier(beside, inputs, logits.shape[1])


def _is_beside(name: str, last: str) -> bool:
    """Whether a layer is as deep in the network as the last one, and is called alike in a module beside that one's."""
    return name.count(".") == last.count(".") and name.split(".")[1:] == last.split(".")[1:]


@dataclass(frozen=True)
class Probe:
    """What a pass over noise says of a network that gives tokens.

    Attributes:
        unordered: names of taps whose maps are laid out in another order than the picture.
        final_tokens: the tokens that the classifier does not read; None: there are none.
        turned: layouts of maps that have channels last, which their shape does not tell: N, H and W are equal.
    """

    unordered: frozenset[str]
    final_tokens: FinalTokens | None
    turned: dict[str, Layout]


def probe(
    cnn: nn.Module, image_size: int, outputs: Mapping[str, Output], taps: Collection[Tap], classifier: Classifier
) -> Probe:
    """Run a network over two pictures of noise, which differ in the upper right quarter.

    The first map of each size must change most in that quarter: some networks have their tokens in another order.

    Args:
        outputs: of the dry run.

    Raises:
        RuntimeError: the network is on the meta device.
    """
    laid_out = [outputs[tap.name] for tap in taps if outputs[tap.name].layout is not None]
    if not laid_out:
        return Probe(frozenset(), None, {})
    equal = [output for output in map(outputs.__getitem__, (tap.name for tap in taps)) if _has_equal_sides(output)]
    first = {output.side: output for output in reversed(laid_out)}
    last = _last_tokens(outputs, laid_out, classifier.inputs)
    wanted = {output.name for output in (*first.values(), *equal)} | ({last.name} if last else set())
    captured: dict[str, Tensor] = {}
    read: list[Tensor] = []

    def capture(name: str, output: object) -> None:
        x = first_tensor(output)
        if x is not None and x.ndim > 2 and name not in captured:
            captured[name] = x

    def note(values: tuple[object, ...]) -> None:
        read.extend(value for value in values if isinstance(value, Tensor) and value.shape == (2, classifier.inputs))

    handles = [
        cnn.get_submodule(name).register_forward_hook(lambda _m, _i, output, name=name: capture(name, output))
        for name in wanted
    ]
    handles += [
        module.register_forward_pre_hook(lambda _m, values: note(values))
        for name, module in cnn.named_modules()
        if name not in classifier.layers[:-1]
    ]
    with hooked(handles):
        run(cnn, _two_pictures(image_size, next(iter(cnn.state_dict().values())).device))
    bad = set[int]()
    in_order = {
        side: output.layout is not None and _follows(captured[output.name], output.layout)
        for side, output in first.items()
    }
    if not in_order[laid_out[0].side]:  # what starts in order stays so
        bad = {side for side, follows in in_order.items() if not follows}
    turned = {
        output.name: Layout(output.side)
        for output in equal
        if _change_there(captured[output.name].permute(0, 3, 1, 2)) > _change_there(captured[output.name])
    }
    unordered = frozenset(output.name for output in laid_out if output.side in bad)
    tokens = None
    if last is not None and last.layout is not None:
        tokens = _unread(last.name, last.layout, captured[last.name], read)
    return Probe(unordered, tokens, turned)


def _two_pictures(image_size: int, device: torch.device) -> Tensor:
    """Make two pictures of noise that differ in the upper right quarter: (2, 3, S, S)."""
    pictures = noise(image_size, device).repeat(2, 1, 1, 1)
    half = image_size // 2
    pictures[1, :, :half, half:] = pictures[1, :, :half, half:].flip(-1)
    return pictures


def _has_equal_sides(output: Output) -> bool:
    """Whether it is (1, N, H, W) with N = H = W, or channels last."""
    return output.layout is None and len(output.shape) == 4 and len({*output.shape[1:]}) == 1


def _last_tokens(outputs: Mapping[str, Output], laid_out: Collection[Output], width: int) -> Output | None:
    """Find the last tokens that are as wide as the classifier's input, of modules that are no parts of blocks."""
    depth = max(output.name.count(".") for output in laid_out)
    tokens = [
        output
        for output in outputs.values()
        if output.layout is not None
        and output.layout.others is not None
        and output.channels == width
        and output.name.count(".") <= depth
    ]
    return tokens[-1] if tokens else None


def _follows(output: Tensor, layout: Layout) -> bool:
    """Whether a map changes in the quarter in which the picture does."""
    return _change_there(layout.to_map(output)) >= CLEARLY


def _change_there(x: Tensor) -> float:
    """Compare the maps of two pictures that differ in the upper right quarter: (2, N, H, H) -> ratio."""
    first, second = x.float()
    change = (first - second).abs().mean(0)
    half = x.shape[-1] // 2
    rest = x.shape[-1] - half
    quarters = [change[:half, rest:], change[:half, :half], change[rest:, :half], change[rest:, rest:]]
    upper_right, *others = (float(quarter.mean()) for quarter in quarters)
    return upper_right / max(1e-12, *others)


def _unread(name: str, layout: Layout, output: Tensor, read: Collection[Tensor]) -> FinalTokens | None:
    """Name the tokens in front of the grid, and the mean of the grid, that no later module reads by themselves."""

    def is_read(value: Tensor) -> bool:
        return any(torch.allclose(value, other, rtol=1e-3, atol=1e-5) for other in read)

    assert layout.others is not None
    others = tuple(index for index in range(layout.others) if not is_read(output[:, index]))
    with_mean = not is_read(layout.grid_tokens(output).mean(1))
    return FinalTokens(name, layout, others, with_mean) if others or with_mean else None
