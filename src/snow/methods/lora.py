"""LoRA: low-rank adapters beside the frozen layers of a copy of the source (Hu et al., 2022), through `peft`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn

from snow.errors import SnowError
from snow.methods.method import read_options
from snow.methods.source_copy import SourceCopy
from snow.source import Source


@dataclass(frozen=True)
class LoraConfig:
    """The size of the adapters.

    Attributes:
        rank: channels between the two convolutions of an adapter.
        alpha: the output of an adapter is scaled by alpha / rank.

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
    """Train adapters and a new head: images (B, 3, S, S) -> (B, C).

        y = conv(x) + alpha / rank * up(down(x))        down: k×k to `rank` channels, up: 1×1 back, starts at zero

    Linear layers inside the CNN get adapters too. Grouped and depthwise convolutions get none, because their rank is
    low already. Everything else stays the source's, BatchNorm statistics included: the copy stays in eval mode, and
    only adapters and head are saved.

    Raises:
        SnowError: `peft` is not installed, or no layer can have an adapter.
    """

    name: ClassVar[str] = "lora"
    config_class: ClassVar[type | None] = LoraConfig
    extra: ClassVar[str | None] = "peft"

    def __init__(self, source: Source, num_classes: int, options: LoraConfig) -> None:
        super().__init__(source, num_classes)
        self.options = options
        _adapt(self.cnn, options)
        self.freeze(buffers=True)
        self.cnn.eval()
        if source.transformers is not None:
            _require_running(self.cnn, source)

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
    """Insert adapters into `cnn` and freeze everything else in it."""
    try:
        import peft
    except ImportError:
        raise SnowError("method lora needs peft: pip install 'snow-cnn[peft]'") from None
    names = [name for name, module in cnn.named_modules() if _is_adaptable(module)]
    if not names:
        raise SnowError(f"{cnn._get_name()} has no convolution that method lora can adapt")
    config = peft.LoraConfig(
        r=options.rank, lora_alpha=options.alpha, target_modules="|".join(map(re.escape, names)), lora_dropout=0.0
    )
    cnn.requires_grad_(False)
    peft.inject_adapter_in_model(config, cnn)


@torch.no_grad()
def _require_running(cnn: nn.Module, source: Source) -> None:
    """Raise SnowError if a network reads settings of its layers that adapters do not have."""
    size, device = source.preprocessing.image_size, next(iter(source.buffers())).device
    try:
        cnn(torch.zeros(1, 3, size, size, device=device))
    except AttributeError as error:
        raise SnowError(f"method lora cannot adapt {source.name}: {error}") from error


def _is_adaptable(module: nn.Module) -> bool:
    """Whether `peft` can adapt a layer. It builds the adapter from the layer's class, so exact classes are required."""
    from timm.layers import Conv2dSame

    if isinstance(module, nn.Conv2d):
        return type(module) in (nn.Conv2d, Conv2dSame) and module.groups == 1 and set(module.dilation) == {1}
    return type(module) is nn.Linear
