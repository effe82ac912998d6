"""LF, learning without forgetting: one network for all tasks, distilled on its old answers (Li & Hoiem, 2018)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods.method import read_options
from snow.methods.sequential_method import SequentialMethod, frozen_copy
from snow.source import Features, Source, global_average


@dataclass(frozen=True)
class ForgettingConfig:
    """How the old answers are kept.

    Attributes:
        old_weight: weight of the distillation loss on old answers relative to the loss on new labels (λ_o).
        temperature: divisor of old and new logits in the distillation loss (T).
        warmup: fraction of training in which only the new head is trained.
        old_rate: learning rate of the network and the old heads relative to that of the new head.

    Raises:
        SnowError: a value outside its range.
    """

    old_weight: float = 1.0
    temperature: float = 2.0
    warmup: float = 0.2
    old_rate: float = 0.1

    def __post_init__(self) -> None:
        if not self.old_weight >= 0:
            raise SnowError(f"old_weight must be zero or more, not {self.old_weight}")
        if not self.temperature > 0:
            raise SnowError(f"temperature must be more than zero, not {self.temperature}")
        if not 0 <= self.warmup < 1:
            raise SnowError(f"warmup is a part of training in [0, 1), not {self.warmup}")
        if not 0 < self.old_rate <= 1:
            raise SnowError(f"old_rate is a ratio in (0, 1], not {self.old_rate}")


class LearningWithoutForgetting(SequentialMethod):
    """Fine-tune a copy of the previous network with a new head, and distil its old heads: images -> (B, C).

        loss = CE(new head, labels) + old_weight * sum over old heads of CE(softmax(old / T), softmax(new / T))

    This is section 3 of Li & Hoiem, equations 1 to 4, without the factor T² of later work. The old logits come from the
    network before this task, for the same crop. The first old head is the source's own. During the warm-up only the new
    head is trained.

    Earlier tasks are answered by the newest network with their own head, see `updated_tasks`. All tasks together are
    one network and its heads: 25.56 + 1.20 = 26.8 M for a ResNet-50 and 584 classes in five tasks.

    Args:
        network: has the new head as its last.
        names: names of the earlier tasks, in order.
        head: index of the head that answers.
        teacher: the network before this task; None if this one is not trained.
    """

    name: ClassVar[str] = "lf"
    config_class: ClassVar[type | None] = ForgettingConfig
    uses_source: ClassVar[bool] = False
    uses_final: ClassVar[bool] = False
    is_shared: ClassVar[bool] = True
    classes_only: ClassVar[bool] = True  # distillation takes the softmax of old heads

    def __init__(
        self,
        network: SharedNetwork,
        names: Sequence[str],
        head: int,
        options: ForgettingConfig,
        teacher: SharedNetwork | None = None,
    ) -> None:
        super().__init__()
        self.network, self.names, self.head, self.options = network, tuple(names), head, options
        self.teacher = None if teacher is None else frozen_copy(teacher)
        self.num_classes = network.widths[head]
        self._warming = False
        self._penalty: Tensor | None = None

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        earlier, values = cls._split_config(config)
        options = read_options(ForgettingConfig, values, cls.name)
        previous = earlier[next(reversed(earlier))].network if earlier else SharedNetwork(source, ())
        network, teacher = copy.deepcopy(previous), copy.deepcopy(previous)
        network.add_head(num_classes)
        return cls(network, tuple(earlier), len(earlier), options, teacher)

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        options = read_options(ForgettingConfig, config["options"], cls.name)
        return cls(SharedNetwork(source, config["heads"]), config["earlier"], config["head"], options).eval()

    @property
    def config(self) -> dict[str, Any]:
        return {
            "earlier": list(self.names),
            "heads": list(self.network.widths),
            "head": self.head,
            "options": asdict(self.options),
        }

    def forward(self, features: Features) -> Tensor:
        source_logits, final = self.network(features.images)
        distils = self.training and not self._warming and self.teacher is not None
        self._penalty = None
        if distils:
            self._penalty = self.options.old_weight * self._distillation(features.images, source_logits, final)
        return self.network.heads[self.head](final)

    def penalty(self) -> Tensor | None:
        penalty, self._penalty = self._penalty, None
        return penalty

    def set_progress(self, fraction: float) -> None:
        self._warming = fraction < self.options.warmup
        self.network.requires_grad_(not self._warming)
        self.network.heads[-1].requires_grad_(True)
        self.network.train(self.training and not self._warming)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.network.train(mode and not self._warming)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def parameter_lr_scale(self, name: str) -> float:
        return 1.0 if name.startswith(f"network.heads.{len(self.network.heads) - 1}.") else self.options.old_rate

    def export_form(self) -> Self:
        """Return the network and its heads, without the teacher."""
        return type(self)(self.network, self.names, self.head, self.options).eval()

    def updated_tasks(self) -> Mapping[str, Self]:
        """Return all earlier tasks, each with its head on this network, which they share."""
        return {
            name: type(self)(self.network, self.names, head, self.options).eval()
            for head, name in enumerate(self.names)
        }

    def _distillation(self, images: Tensor, source_logits: Tensor, final: Tensor) -> Tensor:
        """Compute the cross-entropy between old and new logits at temperature T: sum over old heads, mean over B."""
        assert self.teacher is not None
        with torch.no_grad():
            old = self.teacher.all_logits(*self.teacher(images))
        new = self.network.all_logits(source_logits, final)[: len(old)]
        losses = (self._cross_entropy(target, logits) for target, logits in zip(old, new, strict=True))
        return sum(losses, torch.zeros((), device=images.device))

    def _cross_entropy(self, old: Tensor, new: Tensor) -> Tensor:
        targets = (old.float() / self.options.temperature).softmax(1)
        return -(targets * (new.float() / self.options.temperature).log_softmax(1)).sum(1).mean()


class SharedNetwork(nn.Module):
    """A copy of the source's CNN with its own head, and a linear head per task: images -> (B, C) per head.

    Args:
        widths: number of classes of each task.
    """

    def __init__(self, source: Source, widths: Sequence[int]) -> None:
        super().__init__()
        self.num_features = source.classifier_inputs
        self.cnn = source.trainable_copy()
        self.heads = nn.ModuleList()
        self.widths: list[int] = []
        self._final = torch.empty(0)
        self.cnn.get_submodule(source.classifier).register_forward_pre_hook(self._capture_final)
        for width in widths:
            self.add_head(width)

    def add_head(self, width: int) -> None:
        """Append a head that starts at zero."""
        head = nn.Linear(self.num_features, width)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.heads.append(head)
        self.widths.append(width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits of the source's own head, and the input (B, D) of all heads."""
        source_logits = self.cnn(images)
        if isinstance(source_logits, tuple):  # Inception adds the logits of auxiliary heads while it trains
            source_logits = source_logits[0]
        final, self._final = self._final, torch.empty(0)
        return source_logits, global_average(final)

    def all_logits(self, source_logits: Tensor, final: Tensor) -> list[Tensor]:
        """Compute the logits of all heads, the source's own first."""
        return [source_logits, *(head(final) for head in self.heads)]

    def _capture_final(self, _classifier: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._final = inputs[0]
