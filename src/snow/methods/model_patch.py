"""MP, model patch: a few layers train inside a frozen copy of the source (Mudrakarta et al., ICLR 2019).

The authors describe two patches. *Scale and bias*: the affine parameters of every normalisation layer. *Depthwise*: the
filters of every depthwise convolution; a network without them gets a 3×3 one behind each spatial convolution, which
starts as the identity. In both, BatchNorm uses the statistics of the task.

Table 5 of the SNOW paper fits one of them. A ResNet-50 with its head has 25,557,032 parameters, and five heads over
2,048 features for 584 classes in all have 1,196,616: 26.75 M, the row of FO. The table has 26.9 M for MP, so the patch
of a task has 19 to 39 thousand parameters:

    scale and bias    2 * 26,560 channels behind 53 convolutions       53,120 a task    27.02 M
    depthwise         9 * 3,840 channels of 17 spatial convolutions    34,560 a task    26.93 M
    both                                                               87,680 a task    27.19 M

Only the depthwise patch fits, and only it adds "more layers to deal with" (section 3.1). It is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from snow.errors import SnowError
from snow.methods.method import read_options
from snow.methods.source_copy import SourceCopy, require_maps, require_statistics
from snow.source import Source

PATCHES = ("scale_bias", "depthwise", "both")
NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class ModelPatchConfig:
    """What is trained.

    Attributes:
        patch: one of `PATCHES`.
        statistics: which statistics BatchNorm uses, "task" (Mudrakarta et al.) or "source"; see `SourceCopy`.

    Raises:
        SnowError: an unknown patch or unknown statistics.
    """

    patch: str = "depthwise"
    statistics: str = "task"

    def __post_init__(self) -> None:
        if self.patch not in PATCHES:
            raise SnowError(f"no patch {self.patch!r}: there are {', '.join(PATCHES)}")
        require_statistics(self.statistics)


class ModelPatch(SourceCopy):
    """Train patches and a new head: images (B, 3, S, S) -> (B, C).

    Saved are the patches, the head, and the statistics of BatchNorm unless they are the source's. A CNN without
    normalisation layers (VGG) gets a scale and a bias behind each convolution.
    """

    name: ClassVar[str] = "mp"
    config_class: ClassVar[type | None] = ModelPatchConfig

    def __init__(self, source: Source, num_classes: int, options: ModelPatchConfig) -> None:
        super().__init__(source, num_classes, options.statistics)
        self.options = options
        self.cnn.requires_grad_(False)
        if options.patch != "depthwise":
            _patch_scales(self.cnn)
        if options.patch != "scale_bias":
            _patch_filters(self.cnn)
        self.freeze(buffers=options.statistics == "source")

    @classmethod
    def build(cls, source: Source, num_classes: int, config: Mapping[str, Any] | None = None) -> Self:
        require_maps(source, cls.name)
        return cls(source, num_classes, read_options(ModelPatchConfig, config, cls.name))

    @classmethod
    def rebuild(cls, source: Source, num_classes: int, config: Mapping[str, Any]) -> Self:
        return cls.build(source, num_classes, config).eval()

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.options)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Apply weight decay to the head only: a patch is neutral at its initial value, not at zero."""
        return name == "classifier.weight"


class ScaleBias(nn.Module):
    """Scale and shift channels: (B, channels, H, W) -> the same, `x * scale + bias`; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def _patch_scales(cnn: nn.Module) -> None:
    """Train the affine parameters of all normalisation layers; without any, insert a `ScaleBias` per convolution."""
    norms = [module for module in cnn.modules() if isinstance(module, NORMALISATIONS)]
    for norm in norms:
        norm.requires_grad_(True)
    if not norms:
        for name, conv in _convolutions(cnn):
            cnn.set_submodule(name, nn.Sequential(conv, ScaleBias(conv.out_channels)))


def _patch_filters(cnn: nn.Module) -> None:
    """Train all depthwise filters; without any, insert a 3×3 depthwise convolution behind each spatial one."""
    spatial = [(name, conv) for name, conv in _convolutions(cnn) if max(conv.kernel_size) > 1]
    depthwise = [conv for _, conv in spatial if conv.groups == conv.in_channels > 1]
    for conv in depthwise:
        conv.weight.requires_grad_(True)
    for name, conv in () if depthwise else spatial:
        filters = nn.Conv2d(conv.out_channels, conv.out_channels, 3, 1, 1, groups=conv.out_channels, bias=False)
        nn.init.dirac_(filters.weight, groups=conv.out_channels)
        cnn.set_submodule(name, nn.Sequential(conv, filters))


def _convolutions(cnn: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, module) for name, module in cnn.named_modules() if isinstance(module, nn.Conv2d)]
