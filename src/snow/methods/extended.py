"""A trained method with classes added in closed form, by linear discriminants of the source's final features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods.method import Method
from snow.source import FINAL, Features, Source

FLOOR = -9.2
"""Log-probabilities below it (1e-4) count as equal: far from a class, discriminants say how far, not how likely."""


class Gate(NamedTuple):
    """Linear discriminants as a classifier: final features of unit length (B, D) -> scores (B, C)."""

    weight: Tensor
    bias: Tensor


class Extended(Method):
    """Add classes to a method, which stays as it is: (B, D) and what the method reads -> (B, C).

        old classes:  log p(c | method) + log q'(c) - log q(c)
        new classes:  log q'(c)

    q and q' are the softmax of linear discriminants of the final features, from the statistics of the classes that the
    method learned, and from those of all classes. As long as the statistics are the same the answers are too; a new
    class only takes probability from the old ones where its pictures are more likely.

    Args:
        base: in its export form.
        kept: the classes of the method that stay, in order; the others were removed.
        before: of the classes that the method learned.
        after: of the kept classes and the new ones.
    """

    name: ClassVar[str] = "extended"
    classes_only: ClassVar[bool] = True

    def __init__(self, base: Method, kept: Sequence[int], before: Gate, after: Gate) -> None:
        super().__init__()
        self.base, self.num_classes = base, len(after.bias)
        for name, gate in (("before", before), ("after", after)):
            self.register_buffer(f"{name}_weight", gate.weight)
            self.register_buffer(f"{name}_bias", gate.bias)
        self.kept: Tensor
        self.register_buffer("kept", torch.as_tensor(kept, dtype=torch.int64))

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        """Raises SnowError: it is made of a trained task only."""
        raise SnowError("method extended is made of a trained task: snow extend")

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        base, outputs, kept = config["base"], int(config["base"]["outputs"]), list(config["kept"])
        method = cls.methods[base["method"]].rebuild(source, outputs, base["config"])
        gates = (Gate(torch.zeros(count, source.num_features), torch.zeros(count)) for count in (outputs, num_classes))
        return cls(method, kept, *gates).eval()

    methods: ClassVar[Mapping[str, type[Method]]] = {}
    """The methods that can be extended; `snow.methods` sets it."""

    @property
    def config(self) -> dict[str, Any]:
        base = {"method": self.base.name, "outputs": self.base.num_classes, "config": self.base.config}
        return {"base": base, "kept": self.kept.tolist()}

    @property
    def taps(self) -> frozenset[str]:
        return self.base.taps

    @property
    def moment_taps(self) -> frozenset[str]:
        return self.base.moment_taps

    @property
    def selected_moment_taps(self) -> frozenset[str]:
        return self.base.selected_moment_taps

    def base_of(self, name: str, source: Source) -> Tensor | None:
        part, _, rest = name.partition(".")
        return self.base.base_of(rest, source) if part == "base" else None

    def check_source(self, source: Source) -> None:
        self.base.check_source(source)

    def check_indices(self) -> None:
        self.base.check_indices()
        if len(self.kept) and not 0 <= int(self.kept.min()) <= int(self.kept.max()) < self.base.num_classes:
            raise SnowError("the classes that are kept are damaged")

    def forward(self, features: Features) -> Tensor:
        final = nn.functional.normalize(features.final.float(), dim=1)  # as in the statistics of the task
        before = nn.functional.linear(final, self.before_weight, self.before_bias)[:, self.kept].log_softmax(1)
        after = nn.functional.linear(final, self.after_weight, self.after_bias).log_softmax(1)
        learned = self.base(features).float()[:, self.kept].log_softmax(1)
        count = len(self.kept)
        change = after[:, :count].clamp(min=FLOOR) - before.clamp(min=FLOOR)
        return torch.cat([learned + change, after[:, count:]], 1)

    def selected_mask(self) -> dict[str, Tensor]:
        return self.base.selected_mask()

    def sample_channels(self) -> dict[str, Tensor | None]:
        return {**self.base.sample_channels(), FINAL: None}

    before_weight: Tensor
    before_bias: Tensor
    after_weight: Tensor
    after_bias: Tensor
