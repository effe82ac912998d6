"""Weights as codes of few bits on top of known weights."""

from __future__ import annotations

import math

import pytest
import torch

from snow.methods import METHODS
from snow.methods.low_bit import BITS, SMALLEST, bits_of, code_shape, decode, encode, find_base, round_weights
from snow.source import Source

SHAPES = [(5, 3, 3, 3), (4, 1, 3, 3), (6, 10, 1, 1), (3, 7), (2, 1)]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_codes_are_within_half_a_step_or_at_the_largest_one(shape: tuple[int, ...], bits: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    codes, scale = encode(weight, bits)
    assert (tuple(codes.shape), codes.dtype) == (code_shape(weight.shape, bits), torch.uint8)
    levels = 2 ** (bits - 1) - 1
    rows, steps = weight.flatten(1), scale[:, None]
    nearest = (rows / steps).round().clamp(-levels, levels) * steps
    assert torch.equal(decode(codes, scale, weight.shape, bits).flatten(1), nearest)
    error = (nearest - rows).square().sum(1)
    coarse = rows.abs().amax(1, keepdim=True) / levels
    assert (error <= ((rows / coarse).round() * coarse - rows).square().sum(1) + 1e-12).all(), "no clip is worse"


def test_a_row_with_one_large_number_is_clipped() -> None:
    row = torch.cat([torch.linspace(-1, 1, 400), torch.tensor([1.6])])[None]
    _, scale = encode(row, 4)
    assert scale.item() < 1.6 / 7


@pytest.mark.parametrize("bits", BITS)
def test_what_was_decoded_is_coded_as_it_was(bits: int) -> None:
    torch.manual_seed(0)
    once = decode(*encode(torch.randn(8, 33), bits), (8, 33), bits)
    torch.testing.assert_close(decode(*encode(once, bits), once.shape, bits), once, rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [0.0, 1e-42])
def test_rows_of_nothing_stay_nothing(value: float) -> None:
    weight = torch.full((3, 16), value)
    assert decode(*encode(weight, 4), weight.shape, 4).abs().max() <= value


def test_small_tensors_and_other_types_stay_as_they_are() -> None:
    large = (64, 64)
    assert math.prod(large) == SMALLEST
    assert bits_of(large, torch.float32, True, 4) == 4
    assert bits_of(large, torch.float32, False, 4) == 8, "without a base, coarse steps lose too much"
    assert bits_of(large, torch.int64, True, 4) is None
    assert bits_of((SMALLEST,), torch.float32, True, 4) is None
    assert bits_of((63, 64), torch.float32, True, 4) is None
    assert bits_of((1024, 9), torch.float32, True, 4) is None


@pytest.mark.parametrize("name", ["ft", "partial"])
def test_a_copy_is_rounded_on_top_of_the_source(name: str, resnet: Source) -> None:
    source, method = resnet, METHODS[name].build(resnet, 3)
    untrained = {key: value.clone() for key, value in method.state_dict().items()}
    round_weights(method, source, 4)
    assert all(torch.equal(value, untrained[key]) for key, value in method.state_dict().items())
    torch.manual_seed(0)
    with torch.no_grad():
        learned = {key: value.add_(1e-3 * torch.randn_like(value)).clone() for key, value in method.named_parameters()}
    round_weights(method, source, 4)
    rounded = dict(method.named_parameters())
    assert torch.equal(rounded["classifier.bias"], learned["classifier.bias"])
    for key in ("cnn.layer4.0.conv2.weight", "cnn.layer4.0.conv1.weight"):
        base = find_base(method, key, learned[key].shape, source)
        assert base is not None
        change, left = learned[key] - base, rounded[key] - learned[key]
        assert 0 < left.norm() < 0.15 * change.norm()


def test_methods_without_a_copy_have_no_base(resnet: Source) -> None:
    method = METHODS["snow"].build(resnet, 3)
    assert all(find_base(method, name, value.shape, resnet) is None for name, value in method.named_parameters())
