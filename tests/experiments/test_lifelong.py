from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snow.cli.app import main
from snow.data import Dataset, Task, open_dataset
from snow.errors import SnowError
from snow.experiments.lifelong import forgetting, learn_in_turn, run_lifelong
from snow.hub import Hub
from snow.kinds import NumberKind
from snow.methods.variant import Variant
from snow.process.interrupt import Interrupted
from snow.source import Source
from snow.training import Recipe, Runtime

RECIPE = Recipe(epochs=1, batch_size=8, lr=3e-3, precision="32", calibration=0)
RUNTIME = Runtime(workers=0)
NAMES = ("first", "second", "third")

WriteFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def source(make_source: Callable[..., Source]) -> Source:
    return make_source(image_size=32)


@pytest.fixture
def datasets(tmp_path: Path, write_folder: WriteFolder) -> list[Dataset]:
    """Three tasks; the classes of the second and third are the colours in another order, so they contradict."""
    classes = (("a", "b", "c"), ("c", "a", "b"), ("b", "c"))
    return [
        open_dataset(write_folder(tmp_path / name, chosen, train=4, test=2, size=32, seed=seed), task=name)
        for seed, (name, chosen) in enumerate(zip(NAMES, classes, strict=True))
    ]


def answers(
    hub: Hub, datasets: Sequence[Dataset], label: str, images: Tensor, epochs: int = 1
) -> list[dict[str, Tensor]]:
    """The logits of all learned tasks after each one."""
    after = []
    for methods in learn_in_turn(hub, datasets, Variant(label), replace(RECIPE, epochs=epochs), RUNTIME):
        with torch.no_grad():
            after.append({name: method(hub.source(images)) for name, method in methods.items()})
    return after


@pytest.mark.parametrize("label", ["snow", "fo", "pn"])
def test_later_tasks_change_no_bit(
    label: str, source: Source, datasets: list[Dataset], draw: Callable[..., tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    hub = Hub.create(tmp_path / "hub", source)
    after = answers(hub, datasets, label, draw(6, size=32)[0])
    assert [tuple(step) for step in after] == [NAMES[:1], NAMES[:2], NAMES]
    for step in after[1:]:
        assert torch.equal(step["first"], after[0]["first"])
    assert torch.equal(after[2]["second"], after[1]["second"])
    assert len({logits.numpy().tobytes() for logits in after[2].values()}) == 3


def test_learning_without_forgetting_forgets(
    source: Source, datasets: list[Dataset], draw: Callable[..., tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    hub = Hub.create(tmp_path / "hub", source)
    after = answers(hub, datasets, "lf", draw(6, size=32)[0], epochs=2)
    assert [tuple(step) for step in after] == [NAMES[:1], NAMES[:2], NAMES]
    assert not torch.equal(after[1]["first"], after[0]["first"])
    assert not torch.equal(after[2]["second"], after[1]["second"])


def test_both_orders_are_measured_and_kept(
    source: Source, datasets: list[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = Variant.parse("lf,snow")
    stages: list[str] = []

    def told(stage: str) -> tuple[()]:
        stages.append(stage)
        return ()

    def run(recipe: Recipe = RECIPE) -> dict[str, Any]:
        return run_lifelong(source, datasets[:2], methods, recipe, tmp_path / "hubs", told, runtime=RUNTIME)

    results = run()
    assert stages[:3] == ["lf: first", "lf: first → second", "snow: first"]
    assert len(stages) == 8
    assert [order["order"] for order in results["orders"]] == [["first", "second"], ["second", "first"]]
    for order in results["orders"]:
        assert list(order["methods"]) == ["lf", "snow"]
        for measured in order["methods"].values():
            table = measured["accuracy"]
            assert [[cell is None for cell in row] for row in table] == [[False, False], [True, False]]
            assert all(0 <= cell <= 1 for row in table for cell in row if cell is not None)
            assert measured["forgetting"] == table[0][0] - table[0][1]
        assert order["methods"]["snow"]["forgetting"] == 0

    Hub(tmp_path / "hubs" / "first+second" / "lf", source).remove("second")
    assert run()["orders"] == results["orders"]
    assert stages[8:] == ["lf: first → second"]

    def untrained(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("snow.experiments.lifelong.train", untrained)
    assert run()["orders"] == results["orders"]
    with pytest.raises(SnowError, match="from another run"):
        run(replace(RECIPE, epochs=2))


def test_what_is_in_the_file_is_not_done_again(source: Source, datasets: list[Dataset], tmp_path: Path) -> None:
    out = tmp_path / "results.json"

    def run(labels: str, folder: str, *tasks: Dataset, told: Any = lambda _: ()) -> dict[str, Any]:
        return run_lifelong(source, tasks, Variant.parse(labels), RECIPE, tmp_path / folder, told, out, runtime=RUNTIME)

    first = run("fo", "one", *datasets[:2])
    assert json.loads(out.read_text())["orders"] == first["orders"]
    stages: list[str] = []
    both = run("fo,snow", "two", *datasets[:2], told=lambda stage: stages.append(stage) or ())
    assert len(stages) == 4
    assert all(stage.startswith("snow: ") for stage in stages)
    for before, after in zip(first["orders"], both["orders"], strict=True):
        assert list(after["methods"]) == ["fo", "snow"]
        assert after["methods"]["fo"] == before["methods"]["fo"]
    for other in ((datasets[1], datasets[0]), (datasets[0], datasets[2])):
        with pytest.raises(SnowError, match="holds other results: data differ"):
            run("fo", "three", *other)


def test_forgetting_is_the_mean_loss_of_the_earlier_tasks() -> None:
    assert forgetting([[0.8, 0.5, 0.4], [None, 0.6, 0.7], [None, None, 0.9]]) == pytest.approx((0.4 - 0.1) / 2)


def test_tasks_that_cannot_be_told_apart_are_refused(source: Source, datasets: list[Dataset], tmp_path: Path) -> None:
    for some in (datasets[:1], [datasets[0], datasets[0]]):
        with pytest.raises(SnowError, match="two or more tasks with different names"):
            run_lifelong(source, some, Variant.parse("fo"), RECIPE, tmp_path / "hubs")
    assert not (tmp_path / "hubs").exists()


@pytest.fixture
def folders(tmp_path: Path, write_folder: WriteFolder) -> list[str]:
    sizes = {"train": 3, "test": 2, "size": 32}
    return [str(write_folder(tmp_path / name, seed=seed, **sizes)) for seed, name in enumerate(NAMES[:2])]


OPTIONS = ["--source", "test_resnet", "--no-pretrained", "--image-size", "32", "--epochs", "1", "--batch-size", "8"]


def test_the_command_prints_json(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lifelong", *folders, "--methods", "lf", "--json", "--seed", "3", "--workers", "0", *OPTIONS]) == 0
    printed = capsys.readouterr()
    results = json.loads(printed.out)
    assert results["recipe"]["seed"] == 3
    assert results["source"]["preprocessing"]["image_size"] == 32
    table = results["orders"][1]["methods"]["lf"]["accuracy"]
    assert results["orders"][1]["order"] == ["second", "first"]
    assert table[1][0] is None
    assert isinstance(table[0][1], float)
    assert "lf: first → second …" in printed.err


def test_the_command_prints_a_table(folders: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hubs = tmp_path / "hubs"
    files = ["--hubs", str(hubs), "--out", str(tmp_path / "some/results.json"), "--plot", str(tmp_path / "new/one.png")]
    assert main(["lifelong", *folders, "--methods", "fo", *files, "--workers", "0", *OPTIONS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["fo,", "%", "→", "first", "→", "second"]
    assert lines[1].startswith("first")
    assert len(lines[1].split()) == 3
    assert len(lines[2].split()) == 2
    assert "average accuracy lost on earlier tasks: 0.0 %" in lines
    assert sorted(path.name for path in hubs.iterdir()) == ["first+second", "second+first"]
    assert (tmp_path / "new/one.png").read_bytes().startswith(b"\x89PNG")
    assert list(json.loads((tmp_path / "some/results.json").read_text())["orders"][0]["methods"]) == ["fo"]


@pytest.mark.parametrize(("kept", "told"), [(True, "run the same command to continue"), (False, "use --hubs DIR")])
def test_a_stopped_command_says_how_to_go_on(
    kept: bool,
    told: str,
    folders: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted("stopped; a file in a folder that is gone is saved", 15)

    monkeypatch.setattr("snow.cli.lifelong.run_lifelong", stopped)
    hubs = ["--hubs", str(tmp_path / "hubs")] if kept else []
    assert main(["lifelong", *folders, *hubs, *OPTIONS]) == 128 + 15
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("stopped: ")
    assert told in line


def test_bad_input_is_one_line(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lifelong", folders[0], "--methods", "fo", *OPTIONS]) == 2
    assert main(["lifelong", *folders, "--methods", "nothing", *OPTIONS]) == 2
    assert main(["lifelong", *folders, "--methods", "fo", "--plot", "figure.doc", *OPTIONS]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    assert "two or more tasks" in errors[0]
    assert "no method 'nothing'" in errors[1]
    assert "figure.doc has no image format" in errors[2]


def test_orders_are_of_all_tasks(source: Source, datasets: list[Dataset], tmp_path: Path) -> None:
    for wrong in (["first", "second"], ["first", "second", "fourth"], ["first", "second", "third", "third"]):
        with pytest.raises(SnowError, match=r"an order holds each of first, second, third once, not first, second"):
            run_lifelong(source, datasets, Variant.parse("fo"), RECIPE, tmp_path / "hubs", orders=[wrong])


def test_orders_of_ones_own_are_kept_apart(source: Source, datasets: list[Dataset], tmp_path: Path) -> None:
    out, orders = tmp_path / "out.json", [["second", "first"]]
    arguments = (source, datasets[:2], Variant.parse("fo"), RECIPE, tmp_path / "hubs")
    results = run_lifelong(*arguments, out=out, orders=orders)
    assert [order["order"] for order in results["orders"]] == orders
    with pytest.raises(SnowError, match="out.json holds other orders"):
        run_lifelong(*arguments, out=out)


def test_a_number_is_not_accuracy(source: Source, datasets: list[Dataset], tmp_path: Path) -> None:
    number = Task("third", (), NumberKind(0.0, 1.0, 0.0, 3.0), ("1.0", "2.0"))
    third = replace(datasets[2], tasks=(number,))
    with pytest.raises(SnowError, match="measures accuracy, and task third is number, 0 to 3"):
        run_lifelong(source, [datasets[0], third], Variant.parse("fo"), RECIPE, tmp_path / "hubs", runtime=RUNTIME)
