"""The base class of methods that tune a copy of the source: fine-tuning, model patch and low-rank adapters."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from snow.errors import SnowError
from snow.methods.method import Method
from snow.source import Features, Source, global_average

STATISTICS = ("task", "source")


def require_maps(source: Source, method: str) -> None:
    """Raise SnowError if a source gives tokens: the method changes maps between convolutions."""
    if source.gives_tokens:
        raise SnowError(f"method {method} works on convolutional sources only: {source.name} gives tokens")


@torch.no_grad()
def _require_final(cnn: nn.Module, source: Source) -> None:
    """Raise SnowError unless a copy without classifiers gives what they read: some networks mix several logits."""
    size, device = source.preprocessing.image_size, next(iter(cnn.state_dict().values())).device
    try:
        final = global_average(cnn.eval()(torch.zeros(1, 3, size, size, device=device)))
    except (RuntimeError, TypeError, AttributeError):
        final = torch.zeros(1, 0)
    if final.shape[1] != source.classifier_inputs:
        raise SnowError(
            f"{source.name} cannot be tuned: its logits come from several layers that read different features"
        )


def require_statistics(name: str) -> None:
    """Raise SnowError unless `name` is one of `STATISTICS`."""
    if name not in STATISTICS:
        raise SnowError(f"no statistics {name!r} for BatchNorm: there are {', '.join(STATISTICS)}")


class SourceCopy(Method, ABC):
    """Run a copy of the source's CNN and a new linear head: images (B, 3, S, S) -> (B, C).

    A subclass decides what of the copy trains. Tensors that it takes out with `freeze` stay the source's: they get no
    gradient, are not in `state_dict()`, and `rebuild` takes them from the source again.

    Attributes:
        cnn: the copy without the source's classifier: (B, 3, S, S) -> what that reads.
        statistics: which statistics BatchNorm in the copy uses. "task": those of the batch in training, and running
            ones of the task's pictures in eval mode; "source": always the source's.
    """

    uses_source: ClassVar[bool] = False
    uses_final: ClassVar[bool] = False

    def __init__(self, source: Source, num_classes: int, statistics: str = "task") -> None:
        super().__init__()
        self.statistics = statistics
        self.num_classes = num_classes
        self._frozen: list[tuple[nn.Module, str]] = []
        self.cnn = source.trainable_copy()
        for name in source.classifiers:
            self.cnn.set_submodule(name, nn.Identity())
        if source.gives_tokens:
            _require_final(self.cnn, source)
        self.cnn.train()
        self.classifier = nn.Linear(source.classifier_inputs, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Features) -> Tensor:
        return self.classifier(self.final_features(features.images))

    def final_features(self, x: Tensor) -> Tensor:
        """Run the copy: what it reads -> what the source's classifier read of it, (B, D)."""
        final = self.cnn(x)
        if isinstance(final, tuple):  # Inception adds the logits of auxiliary heads while it trains
            final = final[0]
        return global_average(final)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.cnn.modules():
            if isinstance(module, _NormBase) and self.statistics == "source":
                module.eval()
        return self

    def base_of(self, name: str, source: Source) -> Tensor | None:
        part, _, rest = name.partition(".")
        return source.cnn.state_dict().get(rest) if part == "cnn" else None

    def freeze(self, buffers: bool) -> None:
        """Freeze the parameters of the copy that have `requires_grad=False`, and all its buffers if `buffers`.

        They become plain attributes, so that everything that iterates over parameters and buffers (optimizer, weight
        average, exchange between processes, saving) skips them.
        """
        for module in self.cnn.modules():
            parameters = [name for name, value in module.named_parameters(recurse=False) if not value.requires_grad]
            for name in parameters + [name for name, _ in module.named_buffers(recurse=False) if buffers]:
                value = getattr(module, name).detach()
                delattr(module, name)
                setattr(module, name, value)
                self._frozen.append((module, name))
            if buffers and isinstance(module, _NormBase):
                module.track_running_stats = False  # otherwise it looks for its batch counter when tensors are loaded

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Apply `to`, `cuda`, `half` and their like to the frozen tensors as well."""
        super()._apply(fn, recurse)
        for module, name in self._frozen:
            setattr(module, name, fn(getattr(module, name)))
        return self
