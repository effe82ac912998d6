"""Every table and figure on small trees: measured, written, gone on from, and set beside the paper."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snow.cli.app import main
from snow.data.published import PUBLISHED
from snow.experiments.reproduce import EXPERIMENTS
from snow.experiments.reproduce.paper import SETS, TABLE7

TINY = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")
SHORT = ("--epochs", "1", "--batch-size", "8", "--calibration", "0")
QUICK = (*SHORT, "--workers", "0", "--augment", "none", "--precision", "32")
ONE_RATE = ("--rates", "1e-2")
METHODS = {"table9": "lf,snow", "table4": "", "figure5": ""}
"""In the place of `fo,snow:preset=paper`; empty for the experiment's own."""

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def data(
    write_tree: Callable[[str, Path], Path], write_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Cars in the layout of their authors, and a folder with a split of its own."""
    root = tmp_path_factory.mktemp("data")
    write_tree("stanford-cars", root)
    write_folder(root / "dtd10")
    return root


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests of this file keep their results: what one has measured another need not."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture
def run(data: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(what: str, *options: object) -> tuple[Any, str]:
        methods = METHODS.get(what, "fo,snow:preset=paper")
        given = ("--methods", methods) if methods and "--methods" not in options else ()
        capsys.readouterr()
        place = () if "--out" in options else ("--out", out)
        arguments = (what, "--data", data, *place, "--json", *TINY, *QUICK, *ONE_RATE, *given, *options)
        code = main(["reproduce", *map(str, arguments)])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return json.loads(printed.out) if printed.out else None, printed.err

    return call


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch, in_this_process: None) -> None:
    monkeypatch.setattr("snow.experiments.reproduce.table8.ROUNDS", 1)


@pytest.mark.parametrize("what", EXPERIMENTS)
def test_each_is_measured_written_and_not_measured_again(what: str, run: Run, out: Path) -> None:
    if what == "table4":
        pytest.importorskip("optuna")
    results, _ = run(what)
    assert results["experiment"] == what
    assert json.loads((out / f"{what}.json").read_text()) == results
    text = (out / f"{what}.md").read_text()
    assert text.startswith(f"# {EXPERIMENTS[what].title}\n")
    assert EXPERIMENTS[what].deviations in text
    assert (out / f"{what}.png").read_bytes().startswith(b"\x89PNG")
    again, told = run(what)
    assert "everything is measured already" in told
    assert " …\n" not in told
    ignored = {"date", "command", "steps", "sets", "lifelong"}
    assert {key: value for key, value in again.items() if key not in ignored} == {
        key: value for key, value in results.items() if key not in ignored
    }
    assert again["beside"] == results["beside"]


def test_the_paper_s_figures_stand_beside_ours(run: Run) -> None:
    results, _ = run("table7")
    panels = {(one["title"], one["unit"]): one for one in results["beside"]}
    cars = panels["stanford-cars (in part)", "top-1 %"]
    assert cars["theirs"] == "paper, Car"
    rows = {row["label"]: row for row in cars["rows"]}
    assert rows["fo"]["paper"] == 51.96
    assert rows["snow:preset=paper"]["paper"] == 83.79
    [entry] = [one for one in results["sets"] if one["set"] == "stanford-cars"]
    assert rows["fo"]["here"] == pytest.approx(100 * entry["comparison"]["methods"]["fo"]["top1"])
    assert panels["dtd10-own-split", "top-5 %"]["rows"][0]["paper"] == 91.65
    assert [one["as_in_table_3"] for one in results["sets"]] == [False, False]


def test_only_what_is_missing_is_measured(run: Run, out: Path) -> None:
    run("table7", "--sets", "dtd10-own-split")
    nothing, told = run("table7", "--sets", "dtd10-own-split", "--methods", "fo,fe", "--estimate")
    assert nothing is None
    assert "about 1 s: dtd10-own-split" in told
    run("table7", "--sets", "dtd10-own-split", "--methods", "fo,fe")
    _, told = run("table7", "--sets", "dtd10-own-split", "--methods", "fo,fe", "--estimate")
    assert "everything is measured already" in told
    kept = json.loads((out / "comparisons" / "dtd10-own-split.json").read_text())
    assert {"fo", "fe"} <= set(kept["methods"])


def test_table_4_is_of_the_cars_whatever_stands_beside_it(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    results, _ = run("table4", "--sets", "dtd10-own-split", "--out", tmp_path)
    assert {panel["theirs"] for panel in results["beside"]} == {"paper, Car"}


def test_the_paper_s_orders_are_followed(run: Run) -> None:
    results, _ = run("table9")
    orders = [order["order"] for order in results["lifelong"]["orders"]]
    assert orders == [["stanford-cars", "dtd10-own-split"], ["dtd10-own-split", "stanford-cars"]]
    assert results["paper"][0]["accuracy"][0] == [81.87, 28.40, 22.78, 22.44, 15.31]
    assert all(order["methods"]["snow"]["forgetting"] == 0 for order in results["lifelong"]["orders"])


def test_tasks_are_learned_in_sequence_with_the_cars_in_parts(
    write_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    makes = ("Audi_A5_2012", "Audi_S4_2012", "BMW_M3_2012", "BMW_M5_2010")
    write_folder(tmp_path / "cars196", makes, train=3, test=1)
    write_folder(tmp_path / "dtd10", ("dotted", "woven"), train=3, test=1)
    sets = "dtd10-own-split,cars196-own-split-2of2,cars196-own-split-1of2"
    options = ("table9", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--sets", sets, "--json")
    assert main(["reproduce", *options, *TINY, *QUICK, "--methods", "fo"]) == 0
    results = json.loads(capsys.readouterr().out)
    cars = ["cars196-own-split-1of2", "cars196-own-split-2of2"]
    orders = [order["order"] for order in results["lifelong"]["orders"]]
    assert orders == [[*cars, "dtd10-own-split"], ["dtd10-own-split", *cars]]
    assert all(order["methods"]["fo"]["forgetting"] == 0 for order in results["lifelong"]["orders"])
    assert [entry["classes"] for entry in results["sets"]] == [2, 2, 2]
    assert main(["reproduce", *options, *TINY, *QUICK, "--methods", "fo,lf", "--estimate"]) == 0
    told = capsys.readouterr().err
    assert "lf: cars196-own-split-1of2 → cars196-own-split-2of2 → dtd10-own-split" in told
    assert "fo:" not in told


def test_actions_have_the_paper_s_sigma2(
    write_tree: Callable[[str, Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree("stanford40", tmp_path)
    options = ("table7", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--methods", "snow:preset=paper")
    assert main(["reproduce", *options, *TINY, *QUICK, *ONE_RATE, "--json"]) == 0
    [entry] = json.loads(capsys.readouterr().out)["sets"]
    kept = json.loads((tmp_path / "out" / "comparisons" / "stanford40.json").read_text())
    assert list(entry["comparison"]["methods"]) == ["snow:preset=paper"]
    assert list(kept["methods"]) == ["snow:preset=paper:pooling.sigma2=1e-08"]


def test_all_five_sets_as_their_authors_distribute_them_go_through_one_command(
    write_tree: Callable[[str, Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in PUBLISHED:
        write_tree(name, tmp_path / "datasets")
    out = tmp_path / "out"
    options = ("--data", str(tmp_path / "datasets"), "--out", str(out), "--methods", "fo,snow:preset=paper", "--json")
    assert main(["reproduce", "table7", *options, *TINY, *QUICK, *ONE_RATE]) == 0
    printed = capsys.readouterr()
    results = json.loads(printed.out)
    assert [entry["paper"] for entry in results["sets"]] == list(SETS)
    panels = [panel for panel in results["beside"] if panel["unit"] == "top-1 %"]
    for column, panel in enumerate(panels):
        rows = {row["label"]: row for row in panel["rows"]}
        assert rows["fo"]["paper"] == TABLE7["FO"][column][0]
        assert rows["snow:preset=paper"]["paper"] == TABLE7["SNOW-256"][column][0]
        assert all(0 <= rows[label]["here"] <= 100 for label in ("fo", "snow:preset=paper"))
    assert "missing:" not in printed.err
    assert (out / "table7.png").read_bytes().startswith(b"\x89PNG")


def test_speeds_go_on_where_they_were_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("table8", "--out", str(tmp_path), "--methods", "fo,ft", "--json", *TINY, *QUICK)
    found = []
    for rounds in (1, 2):
        monkeypatch.setattr("snow.experiments.reproduce.table8.ROUNDS", rounds)
        assert main(["reproduce", *options]) == 0
        printed = capsys.readouterr()
        found.append(json.loads(printed.out))
    assert "round 1 of 2" not in printed.err
    assert printed.err.count("round 2 of 2") == 2
    one, two = found
    for label, samples in two["samples"].items():
        assert samples[:1] == one["samples"][label]
        measured = [sample["images_per_second"] for sample in samples]
        assert two["methods"][label]["images_per_second_range"] == [min(measured), max(measured)]


def test_without_matplotlib_all_but_the_picture_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["reproduce", "table5", "--out", str(tmp_path), "--json", "--no-speeds", "--methods", "fo"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[-2] == "no plot was written: plots need matplotlib: pip install 'snow-cnn[plots]'"
    assert told[-1] == f"wrote {tmp_path / 'table5.json'}, {tmp_path / 'table5.md'}"


def test_parameters_need_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--out", str(tmp_path), "--json", "--no-speeds")
    assert main(["reproduce", "table5", *options, "--methods", "fo,snow:preset=paper"]) == 0
    rows = {row["label"]: row for row in json.loads(capsys.readouterr().out)["beside"][0]["rows"]}
    for label, paper in (("fo", 26.8), ("snow:preset=paper", 30.8)):
        assert rows[label]["paper"] == paper
        assert rows[label]["here"] == pytest.approx(paper, rel=0.01)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("table10",), "no table or figure 'table10': there are table4"),
        (("table7",), "table7 needs images, and --data was not given"),
        (("table7", "--data", "nowhere"), "there is no folder nowhere"),
        (("table7", "--data", ".", "--sets", "cub200"), "cub200 was not found: get CUB_200_2011.tgz"),
        (("table7", "--data", ".", "--sets", "mnist"), "unknown dataset 'mnist'"),
        (("table7", "--data", ".", "--sets", "mnist-1of3"), "unknown dataset 'mnist-1of3'"),
        (("table7", "--data", ".", "--sets", "cub200-4of3"), "unknown dataset 'cub200-4of3'"),
        (("table7", "--data", ".", "--sets", "cub200-1of3"), "cub200 was not found: get CUB_200_2011.tgz"),
        (("table7", "--data", ".", "--rates", "many"), "--rates takes numbers"),
        (("table5", "--methods", "magic"), "no method 'magic'"),
        (("table5", "--precision", "int8"), "table5 is measured with --precision 32, 16 or bf16"),
    ],
)
def test_bad_input_is_one_line(
    options: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert told in lines[-1]
    assert all(line.startswith("missing: ") for line in lines[:-1])
    assert not (tmp_path / "reproduction").exists()


def test_a_half_downloaded_set_is_named_and_the_others_go_on(
    write_tree: Callable[[str, Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (write_tree("food101", tmp_path) / "meta" / "test.txt").unlink()
    write_tree("dtd", tmp_path)
    options = ("--data", str(tmp_path), "--out", str(tmp_path / "out"), "--methods", "fo", "--estimate")
    assert main(["reproduce", "table7", *options, *TINY, *QUICK]) == 0
    told = capsys.readouterr().err
    assert f"missing: food101 in {tmp_path / 'food-101'} lacks meta/test.txt: get food-101.tar.gz from https://" in told
    assert "missing: cub200 was not found: get" in told
    assert ": dtd\n" in told
