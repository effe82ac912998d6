"""`snow taps`, `snow params` and `snow hub`: what can be known without training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from snow.methods import METHODS, Snow, SnowConfig, installed_methods
from snow.source import Source
from snow.subscribe import SUBSCRIPTIONS

Run = Callable[..., Any]


def test_taps_of_a_resnet_50(run: Run) -> None:
    taps = run("taps", "resnet50", "--json").json
    assert len(taps) == 16
    assert sum(tap["channels"] for tap in taps) == 15104
    assert {frozenset(tap) for tap in taps} == {frozenset({"name", "channels", "stride"})}
    assert sorted({tap["stride"] for tap in taps}) == [4, 8, 16, 32]


def test_taps_can_be_chosen_and_left_out(run: Run) -> None:
    chosen = run("taps", "resnet18", "--taps", "layer1*,layer2*", "--without-taps", "*.1", "--json").json
    assert [tap["name"] for tap in chosen] == ["layer1.0", "layer2.0"]


def test_taps_of_the_embedded_source_are_those_that_a_task_sees(run: Run) -> None:
    shown = run("taps", "--image-size", "64", "--json").json
    assert [tap["name"] for tap in shown] == [tap.name for tap in Source.embedded(64).taps]


def test_the_table_of_taps_has_a_line_each(run: Run) -> None:
    lines = run("taps", "resnet18").out.splitlines()
    assert lines[0].split() == ["tap", "channels", "stride"]
    assert [line.split()[1:] for line in lines[1:3]] == [["64", "4"], ["64", "4"]]
    assert len(lines) == 9


def test_params_are_what_the_methods_learn(run: Run, make_source: Callable[..., Source]) -> None:
    source = make_source("test_resnet")
    counts = run("params", "--source", "test_resnet", "--image-size", "64", "--classes", "3,10", "--json").json
    assert counts["source"] == {"name": "timm/test_resnet", "parameters": source.learned_parameters}
    assert list(counts["methods"]) == installed_methods()
    assert list(counts["subscriptions"]) == list(SUBSCRIPTIONS)
    paper = asdict(SnowConfig.paper())
    configs = {"snow": paper, "fo": {}, "fe": {}, "ft": {}}
    for name, config in configs.items():
        entry = counts["methods"][name]
        per_task = [METHODS[name].build(source, classes, config).learned_parameters for classes in (3, 10)]
        assert entry == {"total": source.learned_parameters + sum(per_task), "per_task": per_task}
    for name, entry in counts["subscriptions"].items():
        built = [Snow.build(source, classes, {**paper, "subscription": name}) for classes in (3, 10)]
        assert entry == {"overhead": sum(method.learned_parameters for method in built)}
    default = [Snow.build(source, classes).learned_parameters for classes in (3, 10)]
    assert counts["variants"] == {"snow": {"total": source.learned_parameters + sum(default), "per_task": default}}


def test_params_of_a_wider_delta_are_more(run: Run) -> None:
    labels = ["snow:width=0.5", "snow:width=0.25"]
    arguments = ("--source", "test_resnet", "--image-size", "64", "--classes", "5", "--variants", ",".join(labels))
    variants = run("params", *arguments, "--json").json["variants"]
    assert list(variants) == labels
    assert variants[labels[0]]["total"] > variants[labels[1]]["total"]
    assert labels[0] in run("params", *arguments).out


def test_params_refuse_what_is_no_task(refused: Callable[..., str]) -> None:
    assert "two classes" in refused("params", "--source", "test_resnet", "--classes", "5,1")
    assert "whole numbers" in refused("params", "--source", "test_resnet", "--classes", "5,x")


def test_a_hub_lists_its_tasks(run: Run, learned: Path) -> None:
    (entry,) = run("hub", "list", learned, "--json").json
    assert (entry["task"], entry["method"], entry["classes"]) == ("colours", "snow", 3)
    assert entry["artifact_bytes"] == (learned / "tasks/colours/model.safetensors").stat().st_size
    assert "colours" in run("hub", "list", learned).out
