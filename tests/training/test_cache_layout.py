"""Rows of bytes: what goes in comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from snow.errors import SnowError
from snow.inference.features import only
from snow.source import FINAL, Features, Preprocessing
from snow.training.cache_layout import Layout
from snow.training.runtime import format_size, parse_size

PREPROCESSING = Preprocessing(image_size=16)


def seen(batch: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Features]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch, 3, 16, 16), dtype=torch.uint8, generator=generator)
    maps = {
        name: torch.randn(batch, channels, side, side, generator=generator).to(dtype)
        for name, channels, side in (("a.1", 5, 7), ("b", 3, 4))
    }
    final, logits = (torch.randn(batch, width, generator=generator).to(dtype) for width in (9, 10))
    moments = {"b": torch.randn(batch, 2, 3, generator=generator)}
    return images, Features(PREPROCESSING.normalize(images), maps, final, logits, moments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp32_gives_back_what_it_took(dtype: torch.dtype) -> None:
    images, features = seen(dtype=dtype)
    layout = Layout.of(images[:1], only(features, {"a.1": None, "b": None}), "fp32")
    found = layout.unpack(layout.pack(images, features), PREPROCESSING)
    assert torch.equal(found.images, features.images)
    for name, value in features.maps.items():
        assert torch.equal(found.maps[name], value)
        assert found.maps[name].dtype == dtype
        assert found.maps[name].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found.final, features.final)
    assert torch.equal(found.logits, features.logits)
    assert torch.equal(found.moments["b"], features.moments["b"])


@pytest.mark.parametrize(("stored", "bits", "share"), [("fp16", 11, 0.55), ("int8", 7, 0.4)])
def test_narrower_types_round(stored: str, bits: int, share: float) -> None:
    images, features = seen()
    layout, whole = (Layout.of(None, features, kind) for kind in (stored, "fp32"))
    assert layout.size < share * whole.size
    found = layout.unpack(layout.pack(None, features), PREPROCESSING)
    assert found.images.shape == (3, 0)
    for name, value in features.maps.items():
        assert (found.maps[name] - value).abs().max() <= value.abs().max() * 2**-bits
        assert not torch.equal(found.maps[name], value)
    torch.testing.assert_close(found.final, features.final, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.moments["b"], features.moments["b"], rtol=1e-3, atol=1e-4)


def test_what_is_too_large_for_fp16_stays_finite_and_a_silent_channel_silent() -> None:
    _, features = seen()
    features.maps["b"][:, 0] = 1e9
    features.maps["b"][:, 1] = 0.0
    for stored in ("fp16", "int8"):
        layout = Layout.of(None, features, stored)
        found = layout.unpack(layout.pack(None, features), PREPROCESSING).maps["b"]
        assert found.isfinite().all()
        assert not found[:, 1].any()


def test_the_order_of_maps_and_moments_does_not_matter() -> None:
    images, features = seen()
    features.moments["a.1"] = torch.randn(3, 2, 5)
    turned = replace(
        features,
        maps=dict(reversed(features.maps.items())),
        moments=dict(reversed(features.moments.items())),
    )
    assert list(turned.moments) != list(features.moments)
    assert Layout.of(images, turned, "fp16") == Layout.of(images, features, "fp16")


def test_only_some_channels_and_taps() -> None:
    _, features = seen()
    some = only(features, {"b": torch.tensor([0, 2]), FINAL: torch.tensor([8])})
    assert list(some.maps) == ["b"]
    assert torch.equal(some.maps["b"], features.maps["b"][:, [0, 2]])
    assert torch.equal(some.final, features.final[:, [8]])


@pytest.mark.parametrize(("text", "size"), [("4GB", 4 * 10**9), ("1.5 mb", 1_500_000), ("700", 700), ("2k", 2000)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "4 parsecs", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(SnowError, match="is not a size: write 4GB"):
        parse_size(text)


def test_sizes_are_shown() -> None:
    assert [format_size(size) for size in (12, 1_530_000, 4_900_000_000)] == ["12 B", "1.53 MB", "4.9 GB"]
