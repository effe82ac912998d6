"""What fine-tuning, model patches and low-rank adapters have in common: a CNN of their own, copied from the source."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import ClassVar, Self

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from snow.errors import SnowError
from snow.methods.method import Method
from snow.source import Features, Source

STATISTICS = ("task", "source")


def require_statistics(name: str) -> None:
    """Raises SnowError: no such statistics for BatchNorm."""
    if name not in STATISTICS:
        raise SnowError(f"no statistics {name!r} for BatchNorm: there are {', '.join(STATISTICS)}")


class SourceCopy(Method, ABC):
    """Runs its copy of the source's CNN over the picture, and a linear head of its own over what the copy gives.

    The copy can learn. What a subclass takes out of it with `freeze` is the source's for good: it gets no gradient,
    is not in `state_dict()`, and is taken from the source again by `rebuild`.

    Attributes:
        cnn: the copy, without the source's classifier: (B, 3, S, S) -> (B, num_features).
        statistics: those that BatchNorm in the copy has. "task": of each batch while it learns, of the task's pictures
            after; "source": the source's, always.
    """

    uses_source: ClassVar[bool] = False
    uses_final: ClassVar[bool] = False

    def __init__(self, source: Source, num_classes: int, statistics: str = "task") -> None:
        super().__init__()
        self.statistics = statistics
        self.num_classes = num_classes
        self._frozen: list[tuple[nn.Module, str]] = []
        self.cnn = source.trainable_copy().train()
        self.cnn.set_submodule(source.classifier, nn.Identity())
        self.classifier = nn.Linear(source.num_features, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Features) -> Tensor:
        final = self.cnn(features.images)
        if isinstance(final, tuple):  # Inception adds the answers of auxiliary heads while it trains
            final = final[0]
        return self.classifier(final.flatten(2).mean(2) if final.ndim > 2 else final)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.cnn.modules():
            if isinstance(module, _NormBase) and self.statistics == "source":
                module.eval()
        return self

    def freeze(self, buffers: bool) -> None:
        """Takes every parameter of the copy that wants no gradient, and the buffers if so wished, out of what learns.

        They become plain attributes, so that whatever goes over parameters and buffers (optimizer, average, exchange
        between processes, saving) passes them by.
        """
        for module in self.cnn.modules():
            parameters = [name for name, value in module.named_parameters(recurse=False) if not value.requires_grad]
            for name in parameters + [name for name, _ in module.named_buffers(recurse=False) if buffers]:
                value = getattr(module, name).detach()
                delattr(module, name)
                setattr(module, name, value)
                self._frozen.append((module, name))
            if buffers and isinstance(module, _NormBase):
                module.track_running_stats = False  # else it would look for its counter in what is loaded

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to`, `cuda`, `half` and their like do to all tensors, done to the frozen ones as well."""
        super()._apply(fn, recurse)
        for module, name in self._frozen:
            setattr(module, name, fn(getattr(module, name)))
        return self
