"""The options of a method: a frozen dataclass that checks itself, filled by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self, TypeVar

from torch import Tensor, nn

from snow.errors import MismatchError, SnowError
from snow.source import FINAL, Features, Source

Options = TypeVar("Options")


def read_options(kind: type[Options], values: Mapping[str, Any] | None, method: str) -> Options:
    """An instance of the dataclass `kind` with its defaults overridden by `values`.

    Raises:
        SnowError: an unknown name, or a value that `kind` refuses.
    """
    known = [entry.name for entry in fields(kind)]  # ty: ignore[invalid-argument-type]
    unknown = [name for name in values or () if name not in known]
    if unknown:
        raise SnowError(f"method {method} has no option {', '.join(unknown)}: it has {', '.join(known) or 'none'}")
    return kind(**(values or {}))


class Method(nn.Module, ABC):
    """Learns from the features of a frozen source; answers with logits (B, num_classes).

    A new method is one file and one line in `METHODS`.

    Attributes:
        name: its key in `METHODS`.
        config_class: dataclass of its options; None if it has no options.
        uses_source: False if it looks at nothing but `features.images`, as fine-tuning does.
        uses_pictures: False if it looks at nothing but what the source makes of them.
        uses_final: False if it does not look at `features.final` or `features.logits`.
        extra: the package that it needs beyond a plain installation, which is also the name of the extra.
        lr_scale: its learning rate beside that of the recipe.
        num_classes: width of its answer.
    """

    name: ClassVar[str]
    config_class: ClassVar[type | None] = None
    uses_source: ClassVar[bool] = True
    uses_pictures: ClassVar[bool] = True
    uses_final: ClassVar[bool] = True
    extra: ClassVar[str | None] = None
    lr_scale: float = 1.0
    num_classes: int

    @classmethod
    @abstractmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        """A fresh one, ready to learn; `config` overrides its defaults by name.

        Raises:
            SnowError: unknown or impossible options.
        """

    @classmethod
    @abstractmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        """The served form that `config` (as `served().config` gives it) describes, to load saved tensors into."""

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything that `rebuild` needs, as JSON values."""

    @property
    def taps(self) -> frozenset[str]:
        """The source's maps that `forward` reads."""
        return frozenset()

    @abstractmethod
    def forward(self, features: Features) -> Tensor:
        """Returns logits (B, num_classes)."""

    def calibrate(self, batches: Iterable[tuple[Features, Tensor]]) -> None:
        """Sees some of the training pictures, with labels (B,), once before the first step."""

    def set_progress(self, fraction: float) -> None:
        """Told before each step how much of training is over, 0..1."""

    def penalty(self) -> Tensor | None:
        """What the last `forward` adds to the mean loss of its pictures: a scalar, or None for nothing."""

    def selected_mask(self) -> dict[str, Tensor]:
        """By tap where it makes a choice: (N,) of bool, the channels that it would take if it answered now.

        Draws no random numbers and changes nothing: it is asked while training.
        """
        return {}

    def freeze_selection(self) -> None:
        """Makes its choice of channels for good, as it would answer now; what is learned after is other parameters."""

    def sample_channels(self) -> dict[str, Tensor | None]:
        """By tap, and `FINAL`: (K,), ascending, the channels that its next `forward` looks at; None: all of them.

        Maps and final features of these channels alone, in this order, may then stand in the place of whole ones. Once
        it is settled it looks at the same ones each time.
        """
        return dict.fromkeys((*sorted(self.taps), *([FINAL] if self.uses_final else [])))

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Optimizer groups with `params`, `weight_decay` and `lr_scale`: one for each kind of parameter that learns."""
        groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((self.decays(name, parameter), self.rate(name)), []).append(parameter)
        return [
            {"params": params, "weight_decay": weight_decay if decays else 0.0, "lr_scale": self.lr_scale * rate}
            for (decays, rate), params in groups.items()
        ]

    def rate(self, name: str) -> float:
        """The learning rate of the parameter of this name, beside the method's."""
        return 1.0

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay draws this parameter to zero: not what is one-dimensional."""
        return parameter.ndim > 1

    def export_form(self) -> Self:
        """What is saved and answers, in eval mode; itself, unless training needs more than answering."""
        return self.eval()

    @property
    def learned_parameters(self) -> int:
        """How many numbers the served form has learned."""
        training = self.training
        count = sum(parameter.numel() for parameter in self.export_form().parameters())
        self.train(training)
        return count


def option_values(kind: type[Method], config: object) -> Mapping[str, Any] | None:
    """Read options for `Method.build` from the method's config class, or from a mapping by name.

    Raises:
        MismatchError: the config is of another class.
    """
    if config is None or isinstance(config, Mapping):
        return config
    if kind.config_class is not None and isinstance(config, kind.config_class):
        return {entry.name: getattr(config, entry.name) for entry in fields(config)}  # ty: ignore[invalid-argument-type]
    expected = "no config class" if kind.config_class is None else kind.config_class.__name__
    raise MismatchError(f"method {kind.name} has {expected}: its config cannot be {type(config).__name__}")
