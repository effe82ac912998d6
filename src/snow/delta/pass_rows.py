"""What passes over the calibration pictures gave, and which of it a start may read."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from snow.delta.likelihood import CATEGORICAL, Likelihood
from snow.subscribe import inverse_std

FINAL_BLOCK, ANSWERS_BLOCK, MOMENTS_BLOCK = "final", "answers", "moments"
"""Blocks of inputs: the source's final features, the square roots of its classifier's probabilities, moments."""

CHUNK = 2048
"""Columns of the moments that are converted to float32 at a time."""

RANKS = (128, 96, 64)
"""Candidates of R where a weight for each class and input is more than the budget."""


class PassRows(NamedTuple):
    """V views of n labelled pictures, the plain view first.

    Attributes:
        blocks: name -> (V, n, I_b); of the moments, all means of a map, then all deviations, map by map.
        parts: name -> sizes of the parts of a block whose scales have a bound in common: maps and moments.
        label: (n,), or targets (n, C) in the units of outputs.
        num_classes: C, number of outputs.
        likelihood: of the labels.
    """

    blocks: dict[str, Tensor]
    parts: dict[str, list[int]]
    label: Tensor
    num_classes: int
    likelihood: Likelihood = CATEGORICAL

    @property
    def views(self) -> int:
        return len(self.blocks[FINAL_BLOCK])

    @property
    def sizes(self) -> dict[str, int]:
        """Number of inputs by block."""
        return {name: values.shape[-1] for name, values in self.blocks.items()}


class Standard(NamedTuple):
    """How inputs are standardised, `(x - centre) * gain`: block -> (I_b,) each, by the plain view.

    The source's answers are probabilities already: they are only centred.
    """

    centre: dict[str, Tensor]
    gain: dict[str, Tensor]

    @classmethod
    def of(cls, rows: PassRows) -> Self:
        centres, gains = {}, {}
        for name, values in rows.blocks.items():
            parts = [part.float() for part in values[0].split(rows.parts[name], 1)]
            centres[name] = torch.cat([part.mean(0) for part in parts])
            gains[name] = torch.cat([inverse_std(part.std(0, correction=0)) for part in parts])
            if name == ANSWERS_BLOCK:
                gains[name] = torch.ones_like(gains[name])
        return cls(centres, gains)


class Layout(NamedTuple):
    """Inputs of each block, (K,) ascending, and the rank of the weights; None: full."""

    inputs: dict[str, Tensor]
    rank: int | None

    def numbers(self, classes: int) -> int:
        """Count weights and biases."""
        inputs = sum(len(index) for index in self.inputs.values())
        return classes + (inputs * classes if self.rank is None else self.rank * (inputs + classes))


def layouts_within(rows: PassRows, budget: int, solvable: int, ranking: Tensor | None = None) -> list[Layout]:
    """List candidates of what is read, the simplest first.

    Final features alone, with the source's answers, both of them and the strongest moments, and these alone: as many as
    the budget pays for, at full rank and at lower ones.

    Args:
        budget: upper bound of the numbers of a layout, but for the first.
        solvable: upper bound of its inputs.
        ranking: (n,) of bool, the pictures that the moments are ranked by; None: all. Pictures that rank inputs make
            these look better than they are.
    """
    sizes, classes = rows.sizes, rows.num_classes
    layouts = [Layout({FINAL_BLOCK: torch.arange(sizes[FINAL_BLOCK])}, None)]
    strongest = strongest_moments(rows, ranking) if MOMENTS_BLOCK in sizes else torch.arange(0)
    answers = sizes.get(ANSWERS_BLOCK, 0)
    ranks = [rank for rank in RANKS if rank < classes] if rows.likelihood.has_ranks else []
    for rank in (None, *ranks):
        affordable = (budget - classes) // classes if rank is None else (budget - classes - rank * classes) // rank
        left = min(affordable, solvable) - sizes[FINAL_BLOCK]
        if left <= 0:
            continue
        inputs = dict(layouts[0].inputs)
        if 0 < answers <= left:
            with_answers = {**inputs, ANSWERS_BLOCK: torch.arange(answers)}
            if 4 * answers <= left:
                inputs, left = with_answers, left - answers
            elif rank is None:  # too dear beside moments: a layout without these
                layouts.append(Layout(with_answers, rank))
        if MOMENTS_BLOCK in sizes:
            inputs[MOMENTS_BLOCK] = strongest[:left].sort().values
        layouts.append(Layout(inputs, rank))
        if left < sizes.get(MOMENTS_BLOCK, 0):  # more of them in the place of the final features
            layouts.append(Layout({MOMENTS_BLOCK: strongest[: min(affordable, solvable)].sort().values}, rank))
    richest = layouts[-1]
    if len(layouts) == 2 and sum(len(index) for index in richest.inputs.values()) == sum(sizes.values()):
        return [richest]  # its mixes have those of the others among them
    return layouts


def strongest_moments(rows: PassRows, ranking: Tensor | None) -> Tensor:
    """Order the moments by what each says of the labels in the plain view, the strongest first."""
    used = torch.ones(len(rows.label), dtype=torch.bool) if ranking is None else ranking
    label = rows.label[used]
    scores = [
        rows.likelihood.scores(chunk[used].float(), label, rows.num_classes)
        for chunk in rows.blocks[MOMENTS_BLOCK][0].split(CHUNK, 1)
    ]
    return torch.cat(scores).argsort(descending=True)
