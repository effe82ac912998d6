"""Copies of a source and of methods that answer alike with less work."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.engine.fold import folded
from snow.engine.padding import pad_evenly
from snow.methods import Method
from snow.source import Features, Source


def light_source(source: Source) -> Source:
    """A source that gives the same features but for rounding, for pictures of the size that it is made for. It is not
    for saving: its tensors are other ones."""
    picture = example(source)

    def run(light: Source) -> list[Tensor]:
        """Maps and logits: a map that folding would change is seen."""
        features = light(picture)
        return [*features.maps.values(), features.logits]

    light = folded(source, run)
    pad_evenly(light, lambda: light(picture))
    return light


def light_method(method: Method, features: Features) -> nn.Module:
    """What answers as the method does, but for rounding. `features`: of any picture, with what the method looks at."""
    return folded(method, lambda light: [light(features)])


def example(source: Source) -> Tensor:
    """(1, 3, S, S) of uint8 noise, where the source is."""
    size = source.preprocessing.image_size
    noise = torch.randint(256, (1, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return noise.to(next(source.buffers()).device)
