"""What learners see of a batch, at once and in parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snow.methods import METHODS
from snow.methods.observing import AT_A_TIME, observe, observe_in_parts
from snow.source import Source

Draw = Callable[..., tuple[Tensor, Tensor]]


@pytest.mark.parametrize("left", [0, 1, 3])
@pytest.mark.parametrize("name", ["snow", "fo"])
def test_parts_are_what_the_whole_is(source: Source, draw: Draw, name: str, left: int) -> None:
    method = METHODS[name].build(source, 3)
    images, _ = draw(2 * AT_A_TIME["cpu"] + left)
    found, expected = observe_in_parts(source, [method], images), observe(source, [method], images)
    assert found.maps.keys() == expected.maps.keys() == method.taps
    pairs = [(found.images, expected.images), (found.final, expected.final), (found.logits, expected.logits)]
    for part, whole in [*pairs, *((found.maps[tap], expected.maps[tap]) for tap in expected.maps)]:
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-4)
        assert part.stride() == whole.stride()


def test_the_source_sees_few_pictures_at_a_time(source: Source, draw: Draw) -> None:
    seen: list[int] = []
    method = METHODS["fo"].build(source, 3)
    with source.cnn.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0]))):
        observe_in_parts(source, [method], draw(20)[0])
    assert seen == [8, 8, 4]


def test_without_a_look_at_the_source_there_is_no_pass(source: Source, draw: Draw) -> None:
    method = METHODS["ft"].build(source, 3)
    with source.cnn.register_forward_pre_hook(lambda _module, _inputs: pytest.fail("the source is asked")):
        features = observe_in_parts(source, [method], draw(20)[0])
    assert (len(features.images), features.maps, features.final.shape) == (20, {}, (20, 0))
