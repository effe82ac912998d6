"""LoRA: low-rank adapters beside the frozen layers of a copy (Hu et al., 2022), on convolutions through `peft`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from torch import nn

from snow.errors import SnowError
from snow.methods.method import read_options
from snow.methods.source_copy import SourceCopy
from snow.source import Source


@dataclass(frozen=True)
class LoraConfig:
    """Rank of the adapters; what they add is scaled by alpha / rank.

    Raises:
        SnowError: a rank that is not a whole number above zero, an alpha that is not above zero.
    """

    rank: int = 8
    alpha: int = 16

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or self.rank < 1:
            raise SnowError(f"the rank of an adapter is a whole number of at least 1, not {self.rank!r}")
        if not self.alpha > 0:
            raise SnowError(f"alpha must be more than zero, not {self.alpha}")


class Lora(SourceCopy):
    """Beside each convolution a k×k one to `rank` channels and a 1×1 one back, which starts at zero.

    A linear layer inside the CNN, a 1×1 convolution by another name, has an adapter too. Grouped and depthwise
    convolutions have none: they are low in rank already. All else is the source's, BatchNorm with its statistics
    included, which is why the copy stays in eval mode and nothing but adapters and head is saved.

    Raises:
        SnowError: `peft` is not installed, or no layer can have an adapter.
    """

    name: ClassVar[str] = "lora"
    extra: ClassVar[str | None] = "peft"

    def __init__(self, source: Source, num_classes: int, options: LoraConfig) -> None:
        super().__init__(source, num_classes)
        self.options = options
        _adapt(self.cnn, options)
        self.freeze(buffers=True)
        self.cnn.eval()

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        return cls(source, num_classes, read_options(LoraConfig, config, cls.name))

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        return cls.build(source, num_classes, config).eval()

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.options)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.cnn.eval()
        return self


def _adapt(cnn: nn.Module, options: LoraConfig) -> None:
    """Puts adapters into `cnn`; nothing else in it wants a gradient afterwards."""
    try:
        import peft
    except ImportError:
        raise SnowError("method lora needs peft: pip install 'snow-cnn[peft]'") from None
    names = [name for name, module in cnn.named_modules() if _is_adaptable(module)]
    if not names:
        raise SnowError(f"{type(cnn).__name__} has no convolution that an adapter of method lora fits beside")
    config = peft.LoraConfig(
        r=options.rank, lora_alpha=options.alpha, target_modules="|".join(map(re.escape, names)), lora_dropout=0.0
    )
    cnn.requires_grad_(False)
    peft.inject_adapter_in_model(config, cnn)


def _is_adaptable(module: nn.Module) -> bool:
    """`peft` builds an adapter of the layer's own class: those that change their weights on the way are left out."""
    from timm.layers import Conv2dSame

    if isinstance(module, nn.Conv2d):
        return type(module) in (nn.Conv2d, Conv2dSame) and module.groups == 1 and set(module.dilation) == {1}
    return type(module) is nn.Linear
