"""LF, learning without forgetting: one network for all tasks, held to its old answers (Li & Hoiem, 2018)."""

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
from snow.source import Features, Source


@dataclass(frozen=True)
class ForgettingConfig:
    """How an old network is held while it learns something new.

    Attributes:
        old_weight: of the loss on old answers beside that on new labels (λ_o).
        temperature: by which old and new logits are divided there (T).
        warmup: part of training in which the new head learns alone.
        old_rate: learning rate of network and old heads beside that of the new head.

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
    """Tunes a copy of the network before it under a new head, while its old heads keep their answers.

    The loss is the cross-entropy of the new head and, for each old head, `old_weight` times the cross-entropy between
    what it answers to the new pictures and what it answered before (section 3 of Li & Hoiem, equations 1 to 4, without
    the factor T² of later work). The old answers come from the network as it was, for the very crop that is learned
    from. The first old head is the source's own. In the warm-up everything but the new head stands still.

    A task that was learned before is answered by the newest network with that task's head: `updated_tasks`. With N tasks
    there is one network and its heads, for a ResNet-50 and 584 classes in five tasks 25.56 + 1.20 = 26.8 M in all.

    Args:
        network: with the new head as its last.
        names: of the tasks before, in order.
        head: which one answers, from 0.
        teacher: the network before this task; None where nothing is to be learned.
    """

    name: ClassVar[str] = "lf"
    uses_source: ClassVar[bool] = False
    uses_final: ClassVar[bool] = False
    is_shared: ClassVar[bool] = True

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
        earlier, values = cls._earlier(config)
        options = read_options(ForgettingConfig, values, cls.name)
        last = earlier[next(reversed(earlier))].network if earlier else SharedNetwork(source, ())
        network, teacher = copy.deepcopy(last), copy.deepcopy(last)
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
        own, final = self.network(features.images)
        learning = self.training and not self._warming and self.teacher is not None
        self._penalty = self.options.old_weight * self._old_loss(features.images, own, final) if learning else None
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

    def rate(self, name: str) -> float:
        return 1.0 if name.startswith(f"network.heads.{len(self.network.heads) - 1}.") else self.options.old_rate

    def export_form(self) -> Self:
        """The network and its heads without the one before it."""
        return type(self)(self.network, self.names, self.head, self.options).eval()

    def updated_tasks(self) -> Mapping[str, Self]:
        """All tasks before, each answered by its head of this network, which they share."""
        return {
            name: type(self)(self.network, self.names, head, self.options).eval()
            for head, name in enumerate(self.names)
        }

    def _old_loss(self, images: Tensor, own: Tensor, final: Tensor) -> Tensor:
        """Cross-entropy between old and new answers at the temperature, summed over old heads; mean over pictures."""
        assert self.teacher is not None
        with torch.no_grad():
            before = self.teacher.answers(*self.teacher(images))
        now = self.network.answers(own, final)[: len(before)]
        return sum((self._distance(a, b) for a, b in zip(before, now, strict=True)), torch.zeros((), device=own.device))

    def _distance(self, before: Tensor, now: Tensor) -> Tensor:
        targets = (before.float() / self.options.temperature).softmax(1)
        return -(targets * (now.float() / self.options.temperature).log_softmax(1)).sum(1).mean()


class SharedNetwork(nn.Module):
    """The source's CNN with its own head, and a linear head for each task learned since.

    Args:
        widths: classes of each of these heads.
    """

    def __init__(self, source: Source, widths: Sequence[int]) -> None:
        super().__init__()
        self.num_features = source.num_features
        self.cnn = source.trainable_copy()
        self.heads = nn.ModuleList()
        self.widths: list[int] = []
        self._final = torch.empty(0)
        self.cnn.get_submodule(source.classifier).register_forward_pre_hook(self._keep)
        for width in widths:
            self.add_head(width)

    def add_head(self, width: int) -> None:
        """Puts a fresh one behind the others."""
        head = nn.Linear(self.num_features, width)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.heads.append(head)
        self.widths.append(width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the source's own head, and the features (B, D) that all heads see."""
        own = self.cnn(images)
        if isinstance(own, tuple):  # Inception adds the answers of auxiliary heads while it trains
            own = own[0]
        final, self._final = self._final, torch.empty(0)
        return own, final.flatten(2).mean(2) if final.ndim > 2 else final

    def answers(self, own: Tensor, final: Tensor) -> list[Tensor]:
        """The logits of all heads, those of the source's own first."""
        return [own, *(head(final) for head in self.heads)]

    def _keep(self, _classifier: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._final = inputs[0]
