"""What learners see of a batch, at once and in parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snow.inference.features import CHUNK_SIZE, observe, observe_channels
from snow.methods import METHODS, FinalOutput, Method
from snow.source import FINAL, Features, Source
from snow.subscribe import moments

Draw = Callable[..., tuple[Tensor, Tensor]]


def assert_same(found: Features, expected: Features) -> None:
    assert found.maps.keys() == expected.maps.keys()
    pairs = [(found.images, expected.images), (found.final, expected.final), (found.logits, expected.logits)]
    for part, whole in [*pairs, *((found.maps[tap], expected.maps[tap]) for tap in expected.maps)]:
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-4)
        assert part.stride() == whole.stride()


@pytest.mark.parametrize("left", [0, 1, 3])
@pytest.mark.parametrize("name", ["head2toe", "fo"])
def test_parts_are_what_the_whole_is(source: Source, draw: Draw, name: str, left: int) -> None:
    method = METHODS[name].build(source, 3)
    images, _ = draw(2 * CHUNK_SIZE["cpu"] + left)
    [found] = observe_channels(source, [method], images)
    assert_same(found, observe(source, [method], images))


@pytest.mark.parametrize("count", [3, 19])
def test_of_each_map_only_the_wished_channels_stay(source: Source, draw: Draw, count: int) -> None:
    method = METHODS["snow"].build(source, 3)
    images, _ = draw(count)
    whole = observe(source, [method], images)
    wish = {tap: torch.tensor([1, 3]) for tap in method.taps} | {FINAL: torch.tensor([0, 5, 6])}
    [found] = observe_channels(source, [method], images, [wish])
    assert {tap: value.shape[1] for tap, value in found.maps.items()} == dict.fromkeys(method.taps, 2)
    for tap, value in found.maps.items():
        torch.testing.assert_close(value, whole.maps[tap][:, [1, 3]], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.final, whole.final[:, [0, 5, 6]], rtol=1e-4, atol=1e-4)


def learning(source: Source, count: int) -> list[Method]:
    """Tasks whose choice is subject to much noise."""
    config = {"dropout": 0.0, "pooling": {"sigma2": 4.0}}
    return [METHODS["snow"].build(source, 3, config).train() for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 20])
def test_learners_meet_the_channels_that_they_drew(source: Source, draw: Draw, count: int) -> None:
    """In parts or from whole maps: with the same noise the answers are the same."""
    images, _ = draw(11)
    methods = learning(source, count)
    for _ in range(2):  # a choice is good for one step
        torch.manual_seed(1)
        seen = observe_channels(source, methods, images)
        drawn = [subscription._drawn for method in methods for subscription in subscriptions(method)]
        assert all(index is not None for index in drawn)
        found = [method(features) for method, features in zip(methods, seen, strict=True)]
        assert all(subscription._drawn is None for method in methods for subscription in subscriptions(method))
        if count == 1:
            torch.manual_seed(1)
            whole = observe(source, methods, images)
            torch.testing.assert_close(found[0], methods[0](whole), rtol=1e-3, atol=1e-3)


def subscriptions(method: Method) -> list[torch.nn.Module]:
    return [module for module in method.modules() if hasattr(module, "_drawn")]


def test_many_learners_share_whole_maps(source: Source, draw: Draw) -> None:
    """Each takes an eighth: what eight of them take is as large as a map, what twenty take is larger."""
    few, many = (observe_channels(source, learning(source, count), draw(11)[0]) for count in (2, 20))
    taps = few[0].maps
    channels = {tap.name: tap.channels for tap in source.taps}
    assert all(few[0].maps[tap].shape[1] < channels[tap] for tap in taps)
    assert all(each.maps[tap] is many[0].maps[tap] for each in many for tap in taps)
    assert all(each.images is few[0].images for each in few)


def test_a_choice_is_drawn_anew_for_a_whole_map(source: Source, draw: Draw) -> None:
    """One that was drawn for a pass that never came is forgotten."""
    [method] = learning(source, 1)
    method.sample_channels()
    method.eval()
    images, _ = draw(3)
    features = observe(source, [method], images)
    torch.testing.assert_close(method(features), method(features), rtol=0, atol=0)


def test_the_source_sees_few_pictures_at_a_time(source: Source, draw: Draw) -> None:
    seen: list[int] = []
    method = METHODS["fo"].build(source, 3)
    with source.cnn.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0]))):
        observe_channels(source, [method], draw(20)[0])
    assert seen == [16, 4]


def test_without_a_look_at_the_source_there_is_no_pass(source: Source, draw: Draw) -> None:
    method = METHODS["ft"].build(source, 3)
    with source.cnn.register_forward_pre_hook(lambda _module, _inputs: pytest.fail("the source is asked")):
        [features] = observe_channels(source, [method], draw(20)[0])
    assert (len(features.images), features.maps, features.final.shape) == (20, {}, (20, 0))


class MomentsReader(FinalOutput):
    """Reads the moments of every map, and no map."""

    moment_taps = frozenset()


@pytest.mark.parametrize("count", [3, 2 * CHUNK_SIZE["cpu"] + 1])
def test_moments_are_those_of_whole_maps_and_shared(source: Source, draw: Draw, count: int) -> None:
    readers = [MomentsReader.build(source, 3), METHODS["snow"].build(source, 3), MomentsReader.build(source, 3)]
    for reader in readers[::2]:
        reader.moment_taps = frozenset(tap.name for tap in source.taps)
    images, _ = draw(count)
    first, second, third = observe_channels(source, readers, images)
    assert first.maps == {}
    assert second.maps.keys() == readers[1].taps
    whole = source(images).maps
    assert first.moments.keys() == whole.keys()
    for tap, values in whole.items():
        assert first.moments[tap].shape == (count, 2, values.shape[1])
        torch.testing.assert_close(first.moments[tap], moments(values), rtol=1e-4, atol=1e-4)
        assert first.moments[tap].data_ptr() == third.moments[tap].data_ptr()
    [alone] = observe_channels(source, readers[1:2], images)
    assert alone.moments.keys() == readers[1].selected_moment_taps
    for tap, values in alone.moments.items():
        assert values.shape == (count, 2, alone.maps[tap].shape[1])
        torch.testing.assert_close(values, moments(alone.maps[tap]), rtol=1e-4, atol=1e-4)
    assert observe(source, readers[:1], images).moments.keys() == whole.keys()
