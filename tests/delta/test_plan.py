"""Plans: the paper's shapes from taps and ratios, and the errors of a damaged one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snow.delta import FAMILIES, DeltaPlan, make_plan
from snow.delta.plan import kept, scaled
from snow.errors import SnowError
from snow.source import Source

Weightless = Callable[..., Source]
RATIOS = (1 / 8, 1 / 8, 1 / 2)


@pytest.mark.parametrize(
    ("spec", "family"),
    [
        ("resnet50", "bottleneck"),
        ("resnext50_32x4d", "bottleneck"),
        ("wide_resnet50_2", "bottleneck"),
        ("regnetx_002", "bottleneck"),
        ("resnet18", "basic"),
        ("tf_efficientnet_lite0", "mbconv"),
        ("efficientnet_b0", "mbconv"),
        ("mobilenetv2_050", "mbconv"),
        ("mobilenetv3_small_050", "mbconv"),
        ("mnasnet_small", "mbconv"),
        ("torchvision/mobilenet_v2", "mbconv"),
        ("torchvision/mnasnet0_5", "mbconv"),
        ("convnext_atto", "general"),
        ("densenet121", "general"),
        ("torchvision/vgg11_bn", "general"),
        ("torchvision/squeezenet1_1", "general"),
    ],
)
def test_families_are_chosen_by_structure(spec: str, family: str, weightless: Weightless) -> None:
    assert make_plan(weightless(spec), *RATIOS).family == family


def test_resnet50_at_an_eighth(weightless: Weightless) -> None:
    """Every level leads from one map to the next; the last map reaches the classifier as final features."""
    source = weightless("resnet50")
    plan = make_plan(source, 1 / 8, 1 / 8, 1 / 8)
    assert (plan.family, plan.stem, plan.stem_stride) == ("bottleneck", 8, 4)
    assert [level.tap for level in plan.levels] == [tap.name for tap in source.taps[:-1]]
    assert [level.channels for level in plan.levels] == [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 2
    assert [level.own for level in plan.levels] == [8] + [32] * 2 + [64] * 4 + [128] * 6 + [256] * 2
    assert [level.out for level in plan.levels] == [32] * 2 + [64] * 4 + [128] * 6 + [256] * 3
    assert [level.hidden for level in plan.levels] == [8] * 2 + [16] * 4 + [32] * 6 + [64] * 3
    assert [level.stride for level in plan.levels] == [1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1]
    assert all(level.keep == level.channels // 8 and level.kernel == 3 for level in plan.levels)
    assert (plan.final, plan.final_keep) == (1000, 125)


def test_inverted_bottlenecks_keep_their_shape(weightless: Weightless) -> None:
    plan = make_plan(weightless("tf_efficientnet_lite0"), *RATIOS)
    assert {level.kernel for level in plan.levels} == {3, 5}
    assert all(level.hidden > level.out for level in plan.levels)
    assert min(tap_stride(plan)) == 4


def tap_stride(plan: DeltaPlan) -> list[int]:
    """Compute the stride of each level's map from the plan."""
    strides = [plan.stem_stride]
    for level in plan.levels[:-1]:
        strides.append(strides[-1] * level.stride)
    return strides


@pytest.mark.parametrize("spec", ["resnet18", "densenet121", "hrnet_w18_small", "torchvision/vgg11_bn"])
def test_levels_meet_their_maps_from_fine_to_coarse(spec: str, weightless: Weightless) -> None:
    """Also where the source computes fine maps after coarse ones."""
    source = weightless(spec)
    plan = make_plan(source, *RATIOS)
    strides = {tap.name: tap.stride for tap in source.taps}
    assert tap_stride(plan) == [strides[level.tap] for level in plan.levels] == sorted(tap_stride(plan))
    assert min(tap_stride(plan)) >= 4
    assert all(level.own == before.out for before, level in zip(plan.levels, plan.levels[1:], strict=False))
    assert plan.levels[0].own == plan.stem


def test_a_single_tap_has_a_level_of_its_own(make_source: Callable[..., Source]) -> None:
    plan = make_plan(make_source(taps=["layer2.0"]), *RATIOS)
    assert [(level.tap, level.stride) for level in plan.levels] == [("layer2.0", 1)]
    fine = make_plan(make_source(taps=["conv1.0"]), *RATIOS)
    assert [(level.tap, level.stride) for level in fine.levels] == [("conv1.0", 1)]
    assert fine.stem_stride == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_reaches_a_plan(name: str, weightless: Weightless) -> None:
    specs = {"bottleneck": "resnet50", "basic": "resnet18", "mbconv": "mobilenetv2_050", "general": "convnext_atto"}
    assert make_plan(weightless(specs[name]), *RATIOS).family == name


@given(st.integers(1, 5000), st.floats(0.001, 1))
def test_ratios_round_to_usable_numbers(channels: int, ratio: float) -> None:
    width = scaled(channels, ratio)
    assert width >= 8
    assert width % 8 == 0
    assert abs(width - channels * ratio) <= 8
    keep = kept(channels, ratio)
    assert 1 <= keep <= channels
    assert keep == 1 or abs(keep - channels * ratio) <= 0.5


@pytest.mark.parametrize("spec", ["resnet18", "mobilenetv2_050", "convnext_atto"])
def test_round_trip_through_json(spec: str, weightless: Weightless) -> None:
    plan = make_plan(weightless(spec), *RATIOS)
    values = json.loads(json.dumps(plan.to_dict()))
    assert values == plan.to_dict()
    assert DeltaPlan.from_dict(values) == plan


@pytest.fixture
def values(weightless: Weightless) -> dict[str, Any]:
    return json.loads(json.dumps(make_plan(weightless("resnet18"), *RATIOS).to_dict()))


def test_a_missing_number_is_one_line(values: dict[str, Any]) -> None:
    for key in values.keys() - {"patchify"}:
        with pytest.raises(SnowError, match=f"plan cannot be read: .*{key}"):
            DeltaPlan.from_dict({name: value for name, value in values.items() if name != key})
    for key in list(values["levels"][0]):
        broken = [{name: value for name, value in values["levels"][0].items() if name != key}]
        with pytest.raises(SnowError, match=f"plan cannot be read: .*{key}"):
            DeltaPlan.from_dict(values | {"levels": broken})


def test_an_unknown_number_is_one_line(values: dict[str, Any]) -> None:
    with pytest.raises(SnowError, match=r"plan cannot be read: .*depth"):
        DeltaPlan.from_dict(values | {"depth": 3})
    with pytest.raises(SnowError, match=r"plan cannot be read: .*groups"):
        DeltaPlan.from_dict(values | {"levels": [values["levels"][0] | {"groups": 2}]})


@pytest.mark.parametrize("levels", [None, 3, [3], [[]], "abc"])
def test_levels_of_another_kind_are_one_line(values: dict[str, Any], levels: object) -> None:
    with pytest.raises(SnowError, match="plan cannot be read"):
        DeltaPlan.from_dict(values | {"levels": levels})
