"""How a module's output is laid out: as a map, with channels last, or as tokens in the rows of a grid."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

MAX_OTHER_TOKENS = 32
"""Upper bound of class and register tokens in front of a grid."""

MAX_UNSEEN_OTHERS = 8
"""The same where no map of the grid's size was seen before, so that any square number would fit."""


@dataclass(frozen=True)
class Layout:
    """Turns the output of a module into a map (B, N, H, W) with H = W.

    Attributes:
        side: H.
        others: number of tokens in front of the grid, such as class and register tokens; None: the output is
            (B, H, W, N), which has none.
    """

    side: int
    others: int | None = None

    def to_map(self, x: Tensor) -> Tensor:
        """Lay out (B, others + H * W, N) or (B, H, W, N) as (B, N, H, W), a view."""
        if self.others is None:
            return x.permute(0, 3, 1, 2)
        return x[:, self.others :].transpose(1, 2).unflatten(2, (self.side, self.side))

    def grid_tokens(self, x: Tensor) -> Tensor:
        """Take the tokens of the grid: (B, others + H * W, N) -> (B, H * W, N)."""
        return x[:, self.others :]


def first_tensor(output: object) -> Tensor | None:
    """Return the output of a module, or the first of several, as of blocks that give attention weights beside it."""
    while isinstance(output, tuple) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def find_layout(shape: tuple[int, ...], channels_last: bool, sides: Collection[int]) -> Layout | None:
    """Find how an output of a dry run on one picture is to be laid out; None: it is a map as it is, or none at all.

    Tokens are in rows: (1, T, N), with T = others + H * W. H is that of the map before it that leaves the fewest other
    tokens, as of the convolution over patches; or a half, a quarter … of it, where tokens are merged. Without such a
    map it is the root of the largest square within T.

    Args:
        channels_last: whether it is (1, H, W, N) where all three are equal.
        sides: H of the maps before it.
    """
    if len(shape) == 4 and shape[0] == 1 and shape[1] == shape[2] > 1:
        return Layout(shape[1]) if channels_last or shape[2] != shape[3] else None
    if len(shape) != 3 or shape[0] != 1:
        return None
    tokens = shape[1]
    halved = {side >> times for side in sides for times in range(side.bit_length())}
    seen = [side for side in halved if side > 1 and 0 <= tokens - side**2 <= MAX_OTHER_TOKENS]
    side = max(seen, default=math.isqrt(tokens))
    others = tokens - side**2
    return Layout(side, others) if side > 1 and (seen or others <= MAX_UNSEEN_OTHERS) else None
