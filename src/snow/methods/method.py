"""The base class of methods, and the reading of their options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self, TypeVar

from torch import Tensor, nn

from snow.delta import Likelihood
from snow.errors import DamagedError, MismatchError, SnowError
from snow.source import FINAL, Features, Source

Options = TypeVar("Options")


def read_options(kind: type[Options], values: Mapping[str, Any] | None, method: str) -> Options:
    """Make an instance of the dataclass `kind`, with `values` over its defaults.

    Raises:
        SnowError: an unknown name, or a value that `kind` refuses.
    """
    known = [entry.name for entry in fields(kind)]  # ty: ignore[invalid-argument-type]
    unknown = [name for name in values or () if name not in known]
    if unknown:
        raise SnowError(f"method {method} has no option {', '.join(unknown)}: it has {', '.join(known) or 'none'}")
    return kind(**(values or {}))


class Method(nn.Module, ABC):
    """Classify pictures from the features of a frozen source: `Features` of B pictures -> logits (B, C).

    A new method is one file and one line in `METHODS`.

    Attributes:
        name: its key in `METHODS`.
        config_class: dataclass of its options; None if it has none.
        uses_source: False if it reads `features.images` only, as fine-tuning does.
        uses_pictures: False if it does not read `features.images`.
        uses_final: False if it reads neither `features.final` nor `features.logits`.
        extra: package that it needs beyond the plain installation, which is also the name of the extra.
        lr_scale: its learning rate relative to the recipe's.
        num_classes: C, number of outputs: the classes, or what another kind of label asks for (`snow.kinds`).
        classes_only: True if it can learn labels of kind class only.
    """

    name: ClassVar[str]
    config_class: ClassVar[type | None] = None
    uses_source: ClassVar[bool] = True
    uses_pictures: ClassVar[bool] = True
    uses_final: ClassVar[bool] = True
    extra: ClassVar[str | None] = None
    classes_only: ClassVar[bool] = False
    lr_scale: float = 1.0
    num_classes: int

    @classmethod
    @abstractmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        """Make a method that is ready to train; `config` overrides its defaults by name.

        Raises:
            SnowError: unknown or impossible options.
        """

    @classmethod
    @abstractmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        """Make the empty export form that `export_form().config` describes, to load saved tensors into."""

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything that `rebuild` needs, as JSON values."""

    @property
    def taps(self) -> frozenset[str]:
        """Names of the source's maps that `forward` reads."""
        return frozenset()

    @property
    def moment_taps(self) -> frozenset[str]:
        """Names of the taps whose channel moments `forward` reads, see `Features.moments`."""
        return frozenset()

    @property
    def selected_moment_taps(self) -> frozenset[str]:
        """Names of the taps of whose selected channels `forward` reads moments, if `Features.moments` has them."""
        return frozenset()

    def check_source(self, source: Source) -> None:
        """Check that the source has the maps that `forward` reads. Reads no tensors.

        Raises:
            MismatchError: a map is missing, or has another number of channels.
        """
        for tap in self.taps | self.moment_taps:
            try:
                source.cnn.get_submodule(tap)
            except AttributeError:
                raise MismatchError(f"the source has no map {tap!r}") from None

    def check_indices(self) -> None:
        """Check loaded tensors that hold indices. Raises DamagedError: one is out of bounds."""

    @abstractmethod
    def forward(self, features: Features) -> Tensor:
        """Compute logits: (B, C)."""

    def calibrate(self, batches: Iterable[tuple[Features, Tensor]]) -> None:
        """Adapt to batches of training pictures and their labels, once before the first step.

        Labels are numbers of classes, (B,), -1 for none; for other kinds of labels targets, (B, C), NaN where unknown.
        """

    @property
    def starts_by_evidence(self) -> bool:
        """Whether `calibrate_views` finds a start that training must beat on held-out pictures to be kept."""
        return False

    @property
    def evidence(self) -> dict[str, Any]:
        """What calibration chose and why, as JSON values; empty where it chose nothing."""
        return {}

    def calibrate_views(
        self,
        batches: Iterable[tuple[Features, Tensor]],
        views: int,
        learned: Tensor | None = None,
        likelihood: Likelihood | None = None,
    ) -> None:
        """Adapt to several views of n training pictures, once before the first step, where `starts_by_evidence`.

        Args:
            batches: those of `calibrate`, then the same pictures in the same order, augmented, for each other view.
            views: V.
            learned: (n,) of bool, False for pictures that training holds out; None: it holds out none.
            likelihood: of the labels, which are in the units of outputs where they are targets; None: no start is found
                for such targets.
        """
        self.calibrate(batches)

    def apart(self, features: Features) -> Tensor:
        """Compute the logits of P networks whose sum is weighed by held-out pictures: (B, P, C), P of 1 or 2."""
        return self(features)[:, None]

    def mix(self, parts: Tensor, share: float | Tensor) -> Tensor:
        """Sum the logits of `apart`, the last of them with this share: (B, P, C) -> (B, C)."""
        return parts[:, 0] if parts.shape[1] == 1 else parts[:, 0].lerp(parts[:, 1], share)

    def set_share(self, share: float) -> None:
        """Answer with this share from now on, where there are two networks."""

    def layout(self) -> dict[str, Any] | None:
        """Return what `calibrate` decided about the shapes of tensors, as JSON values; None: nothing."""
        return None

    def set_layout(self, layout: Mapping[str, Any]) -> None:
        """Take the shapes of a calibrated method's `layout`, so that its tensors can be loaded."""

    def conclude(self, trained: bool, scale: float) -> None:
        """Finish a method that `starts_by_evidence`, in place.

        Args:
            trained: whether its weights are trained ones, or those of its start.
            scale: factor of the trained logits that held-out pictures bear out.
        """

    def set_progress(self, fraction: float) -> None:
        """Follow the schedule of training, with 0..1 of it done; called before each step."""

    def penalty(self) -> Tensor | None:
        """Return what the last `forward` adds to the mean loss of its batch: a scalar, or None."""

    def selected_mask(self) -> dict[str, Tensor]:
        """Return the channels that would be used in eval mode: tap -> (N,) of bool, where channels are selected.

        Draws no random numbers and changes nothing, so that it can be called while training.
        """
        return {}

    def freeze_selection(self) -> None:
        """Fix the current selection of channels, in place; the other parameters train on."""

    def sample_channels(self) -> dict[str, Tensor | None]:
        """Draw the channels that the next `forward` reads: tap, or `FINAL` -> (K,) ascending; None: all.

        Maps and final features of these channels only, in this order, may then be passed to `forward` instead of whole
        ones. After `freeze_selection` the result is constant.
        """
        return dict.fromkeys((*sorted(self.taps), *([FINAL] if self.uses_final else [])))

    def base_of(self, name: str, source: Source) -> Tensor | None:
        """Return the tensor of the source that a tensor of the method started from; None: it started from none."""
        return None

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Group the trainable parameters for an optimizer, with the keys `params`, `weight_decay` and `lr_scale`."""
        groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                key = self.decays(name, parameter), self.parameter_lr_scale(name)
                groups.setdefault(key, []).append(parameter)
        return [
            {"params": params, "weight_decay": weight_decay if decays else 0.0, "lr_scale": self.lr_scale * lr_scale}
            for (decays, lr_scale), params in groups.items()
        ]

    def parameter_lr_scale(self, name: str) -> float:
        """Return the learning rate of a parameter relative to the method's."""
        return 1.0

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay applies to a parameter: by default not to one-dimensional ones."""
        return parameter.ndim > 1

    def export_form(self) -> Self:
        """Return the form used for saving and inference, in eval mode; by default the method itself."""
        return self.eval()

    @property
    def learned_parameters(self) -> int:
        """Number of parameters of the export form."""
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


def require_channels(name: str, channels: int, present: int) -> None:
    """Raise MismatchError unless a map of the source has the channels that a method reads."""
    if channels != present:
        raise MismatchError(f"map {name} of the source has {present} channels, not {channels}")


def require_index(name: str, index: Tensor, count: int) -> None:
    """Raise DamagedError unless all values of `index` are in 0..count - 1."""
    if index.numel() and not (int(index.min()) >= 0 and int(index.max()) < count):
        raise DamagedError(f"an index of {name} is outside of its {count} channels")
