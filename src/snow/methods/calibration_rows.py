"""What several passes over the calibration pictures gave, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from snow.delta import CATEGORICAL, Likelihood
from snow.delta.pass_rows import ANSWERS_BLOCK, FINAL_BLOCK, MOMENTS_BLOCK, PassRows
from snow.delta.readout import root_probabilities
from snow.source import FINAL, LOGITS, Features
from snow.subscribe import moments

MAX_FLOAT32_NUMBERS = 2**27
"""Moments in all up to which they are kept in float32 (512 MB), and in float16 beyond."""


@dataclass(frozen=True)
class CalibrationRows:
    """V views of n pictures, on the CPU, the plain view first.

    Attributes:
        final: (V, n, D).
        answers: (V, n, C), square roots of the probabilities of the source's classes; None: not kept.
        moments: tap -> (V, n, 2, N).
        label: (n,), -1 where there is none; or targets (n, W) of another kind, NaN where nothing is known.
    """

    final: Tensor
    answers: Tensor | None
    moments: dict[str, Tensor]
    label: Tensor

    @classmethod
    def of(
        cls, batches: Iterable[tuple[Features, Tensor]], taps: Sequence[str], views: int, with_answers: bool
    ) -> Self:
        """Collect the batches of all views, one view after the other, with the pictures in one order.

        Args:
            taps: whose moments are kept, in this order.
        """
        parts: dict[str, list[Tensor]] = {tap: [] for tap in (*taps, FINAL, LOGITS)}
        labels: list[Tensor] = []
        numbers = 0
        for features, label in batches:
            labels.append(label.cpu())
            parts[FINAL].append(features.final.float().cpu())
            if with_answers:
                parts[LOGITS].append(root_probabilities(features.logits).cpu())
            for tap in taps:
                values = features.moments.get(tap)
                values = (moments(features.maps[tap].float()) if values is None else values).cpu()
                parts[tap].append(values)
                numbers += values.numel()
            if numbers > MAX_FLOAT32_NUMBERS:
                for tap in taps:
                    parts[tap] = [value.half() for value in parts[tap]]
        joined = {name: torch.cat(values).unflatten(0, (views, -1)) for name, values in parts.items() if values}
        label = torch.cat(labels).unflatten(0, (views, -1))[0]
        return cls(joined[FINAL], joined.get(LOGITS), {tap: joined[tap] for tap in taps}, label)

    def of_pictures(self, kept: Tensor) -> Self:
        """Keep some pictures, by a mask (n,)."""
        if bool(kept.all()):
            return self
        return replace(
            self,
            final=self.final[:, kept],
            answers=None if self.answers is None else self.answers[:, kept],
            moments={tap: values[:, kept] for tap, values in self.moments.items()},
            label=self.label[kept],
        )

    def final_moments(self) -> Tensor:
        """Return the final features of the plain view as moments without deviations: (n, 2, D)."""
        return moments(self.final[0][:, :, None, None])

    def parts(self) -> list[tuple[str, int]]:
        """List name and size of what a readout reads, in the order of `pass_rows`."""
        answers = [] if self.answers is None else [(LOGITS, self.answers.shape[-1])]
        taps = [(tap, 2 * values.shape[-1]) for tap, values in self.moments.items()]
        return [(FINAL, self.final.shape[-1]), *answers, *taps]

    def pass_rows(self, num_classes: int, likelihood: Likelihood = CATEGORICAL) -> PassRows:
        """Arrange the rows, of which labels are known, in blocks of inputs."""
        blocks = {FINAL_BLOCK: self.final}
        parts = {FINAL_BLOCK: [self.final.shape[-1]]}
        if self.answers is not None:
            blocks[ANSWERS_BLOCK], parts[ANSWERS_BLOCK] = self.answers, [self.answers.shape[-1]]
        if self.moments:
            blocks[MOMENTS_BLOCK] = torch.cat([values.flatten(2) for values in self.moments.values()], 2)
            parts[MOMENTS_BLOCK] = [size for values in self.moments.values() for size in (values.shape[-1],) * 2]
        return PassRows(blocks, parts, self.label, num_classes, likelihood)
