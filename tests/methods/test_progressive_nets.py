from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact
from snow.methods import METHODS
from snow.methods.progressive_nets import Adapter, ProgressiveNets
from snow.source import Features, Source


def make_features(source: Source, count: int = 6, seed: int = 1) -> Features:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)
    return source(images)


def make_three(source: Source) -> list[ProgressiveNets]:
    """Make the methods of three tasks, in order."""
    columns: dict[str, ProgressiveNets] = {}
    for name in ("a", "b", "c"):
        columns[name] = ProgressiveNets.build(source, 3, {"earlier": columns})
        torch.nn.init.normal_(columns[name].classifier.weight)
    return list(columns.values())


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_five_tasks_on_a_resnet50_have_the_size_of_table_5(make_source: Callable[..., Source]) -> None:
    source = make_source("resnet50")
    first = ProgressiveNets.build(source, 101)
    adapters = 3 * 256**2 + 4 * 512**2 + 6 * 1024**2 + 13
    assert first.learned_parameters == 23_508_032 + 2049 * 101 + adapters
    second = ProgressiveNets.build(source, 101, {"earlier": {"food": first}})
    assert second.learned_parameters - first.learned_parameters == adapters
    classes = (101, 47, 40, 196, 200)
    plain = first.learned_parameters - 2049 * 101 - adapters
    total = source.learned_parameters + sum(plain + 2049 * n + k * adapters for k, n in enumerate(classes, start=1))
    assert total / 257.4e6 == pytest.approx(1, abs=5e-4)


def test_it_is_a_network_of_the_sources_shape_with_other_weights(source: Source) -> None:
    method = ProgressiveNets.build(source, 3)
    source_state = dict(source.cnn.named_buffers())
    own = {name: value for name, value in method.column.cnn.named_parameters() if value.ndim == 4}
    assert own
    for name, value in own.items():
        assert value.shape == source_state[name].shape
        assert not torch.equal(value, source_state[name])


def test_it_can_start_from_the_sources_weights(source: Source) -> None:
    method = ProgressiveNets.build(source, 3, {"start": "source"}).eval()
    for adapter in method.column.adapters:
        adapter.scales.data.zero_()
    features = make_features(source)
    torch.testing.assert_close(method.column(features.images, [features.maps])[0], features.final)
    with pytest.raises(SnowError, match="no start 'somewhere' of a column: there are random, source"):
        ProgressiveNets.build(source, 3, {"start": "somewhere"})


def test_there_are_adapters_ahead_of_the_last_resolution(source: Source) -> None:
    last = max(tap.stride for tap in source.taps)
    assert ProgressiveNets.build(source, 3).taps == {tap.name for tap in source.taps if tap.stride < last}


def test_an_adapter_is_equation_2() -> None:
    adapter = Adapter(2, before=2)
    with torch.no_grad():
        adapter.scales.copy_(torch.tensor([2.0, -1.0]))
        adapter.projection.weight.copy_(torch.tensor([[1.0, 0, 3, 0], [0, 1, 0, -1]])[:, :, None, None])
    maps = [torch.tensor([[-1.0, 4.0]])[:, :, None, None], torch.tensor([[-5.0, -2.0]])[:, :, None, None]]
    assert adapter(maps).flatten().tolist() == [2 * -1 + 3 * 5, 2 * 4 - 2]
    assert adapter([-x for x in maps]).flatten().tolist() == [0, 0]


def test_without_adapters_it_is_the_plain_network(source: Source) -> None:
    method = ProgressiveNets.build(source, 3).eval()
    torch.nn.init.normal_(method.classifier.weight)
    features = make_features(source)
    joined = method(features)
    for adapter in method.column.adapters:
        torch.nn.init.zeros_(adapter.projection.weight)
    cnn = copy.deepcopy(method.column.cnn)
    for module in cnn.modules():
        module._forward_hooks.clear()
    plain = cnn(features.images)
    expected = method.classifier(plain.flatten(2).mean(2) if plain.ndim > 2 else plain)
    assert torch.equal(method(features), expected)
    assert not torch.allclose(joined, expected, atol=1e-4)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_column_reads_each_column_before_it(resnet: Source, index: int) -> None:
    """The source, then the columns of two tasks."""
    method = make_three(resnet)[2].eval()
    features = make_features(resnet)
    with torch.no_grad():
        before = method(features)
        for adapter in method.column.adapters:
            adapter.scales[index] = 0
        assert not torch.allclose(method(features), before, atol=1e-5)


def test_only_its_own_column_learns(source: Source) -> None:
    first, second, third = make_three(source)
    fingerprint, sources = source.fingerprint, snapshot(source)
    before = [snapshot(first), snapshot(second), snapshot(third.earlier)]
    third.train()
    optimizer = torch.optim.AdamW(third.parameter_groups(0.1), lr=0.1)
    for _ in range(2):
        third(make_features(source)).square().sum().backward()
        assert all(value.grad is not None for value in third.column.parameters())
        assert all(value.grad is None for value in third.earlier.parameters())
        optimizer.step()
        optimizer.zero_grad()
    for module, kept in zip((first, second, third.earlier), before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())
    assert all(torch.equal(value, sources[name]) for name, value in source.state_dict().items())
    assert source.fingerprint == fingerprint
    assert not list(third.earlier.buffers())


def test_it_learns(resnet: Source, draw: Callable[..., tuple[Tensor, Tensor]]) -> None:
    images, labels = draw(12)
    first = ProgressiveNets.build(resnet, 3)
    method = ProgressiveNets.build(resnet, 3, {"earlier": {"a": first}}).train()
    optimizer = torch.optim.AdamW(method.parameter_groups(0.0), lr=3e-3)
    features = resnet(images, method.taps)
    for _ in range(10):
        torch.nn.functional.cross_entropy(method(features), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (method(features).argmax(1) == labels).float().mean() > 0.9


def test_what_is_saved_needs_no_earlier_task(source: Source, tmp_path: Path) -> None:
    first, _, third = make_three(source)
    features = make_features(source)
    expected = third.eval()(features)
    Artifact("third", ("x", "y", "z"), third.export_form(), source.description()).save(tmp_path / "third")
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    loaded = Artifact.load(tmp_path / "third", source).method
    assert torch.equal(loaded(features), expected)
    assert loaded.learned_parameters == third.learned_parameters
    assert json.loads(json.dumps(loaded.config)) == {"earlier": ["a", "b"]}


def test_a_copy_answers_for_itself(resnet: Source) -> None:
    method = make_three(resnet)[1].eval()
    twin = copy.deepcopy(method)
    features = make_features(resnet)
    expected = method(features)
    assert torch.equal(twin(features), expected)
    for adapter in method.column.adapters:
        torch.nn.init.zeros_(adapter.projection.weight)
    assert not torch.equal(method(features), expected)
    assert torch.equal(twin(features), expected)


def test_impossible_earlier_tasks_are_refused(resnet: Source) -> None:
    first, second, _ = make_three(resnet)
    with pytest.raises(SnowError, match="in their order: b was learned after a"):
        ProgressiveNets.build(resnet, 3, {"earlier": {"b": second, "a": first}})
    with pytest.raises(SnowError, match="a is not one"):
        ProgressiveNets.build(resnet, 3, {"earlier": {"a": METHODS["fo"].build(resnet, 3)}})
    with pytest.raises(SnowError, match="not 'a'"):
        ProgressiveNets.build(resnet, 3, {"earlier": "a"})
    with pytest.raises(SnowError, match="no option width"):
        ProgressiveNets.build(resnet, 3, {"width": 1})
