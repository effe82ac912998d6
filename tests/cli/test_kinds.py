"""Tags, numbers and grades through every command, beside classes, from one table."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from snow.cli.app import main
from snow.data import to_batch
from snow.experiments.report import write_report
from snow.hub import Hub
from snow.kinds import ClassKind

Run = Callable[..., Any]
TINY = ("--source", "test_resnet", "--no-pretrained", "--image-size", "64")
QUICK = (
    "--epochs",
    "6",
    "--batch-size",
    "16",
    "--workers",
    "0",
    "--lr",
    "0.01",
    "--augment",
    "none",
    "--precision",
    "32",
)
LABELS = ("--tasks", "body,tags,year,quality", "--kind", "tags=multi,year=number:AD,quality=ordered:bad<fair<good")
CHANNELS = ("red", "green", "blue")


def write_pictures(folder: Path, count: int = 96) -> Path:
    """Pictures whose tags are the colours that are on, whose number is brightness, with a table `labels.csv`."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "split", "body", "tags", "year", "quality"))
        for number in range(count):
            on = [(number >> bit) & 1 for bit in range(3)]
            level = int(rng.integers(60, 180))
            pixels = rng.integers(0, 30, (64, 64, 3)) + level * np.array(on) + 20
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
            tags = "|".join(name for name, is_on in zip(CHANNELS, on, strict=True) if is_on) or "none"
            quality = ("bad", "fair", "good")[sum(on) * 3 // 4]
            body = "warm" if on[0] else "cold"
            year = "" if number % 12 == 5 else 1900 + 10 * sum(on) + level // 30
            split = "test" if number % 3 == 2 else "train"
            table.writerow((f"{number}.png", split, body, tags, year, quality))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("kinds") / "pictures")


@pytest.fixture(scope="module")
def hub(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub that has learned all four columns in one pass. Only to be read."""
    path = tmp_path_factory.mktemp("kinds") / "hub"
    assert main(["train", str(pictures / "labels.csv"), "--hub", str(path), *LABELS, *TINY, *QUICK]) == 0
    return path


KINDS = {"body": "class", "tags": "multi", "year": "number", "quality": "ordered"}
FIGURES = {
    "body": {"top1", "top5", "balanced_accuracy", "macro_f1", "ece"},
    "tags": {"map", "micro_f1", "macro_f1"},
    "year": {"mae", "rmse", "r2", "spearman"},
    "quality": {"mae_grades", "top1"},
}


def test_every_kind_is_learned_in_one_pass(hub: Path) -> None:
    metrics = {task: json.loads((hub / "tasks" / task / "metrics.json").read_text())["test"] for task in KINDS}
    assert {task: values.keys() - {"images"} for task, values in metrics.items()} == FIGURES
    assert metrics["body"]["top1"] > 0.9
    assert metrics["tags"]["map"] > 0.9
    assert metrics["year"]["r2"] > 0.5
    assert metrics["quality"]["mae_grades"] < 0.4
    assert metrics["year"]["images"] < metrics["body"]["images"] == 32


def test_a_saved_task_says_what_its_labels_are(hub: Path) -> None:
    configs = {task: json.loads((hub / "tasks" / task / "config.json").read_text()) for task in KINDS}
    assert "labels" not in configs["body"]
    assert {task: config["format"] for task, config in configs.items()} == {
        "body": 1,
        "tags": 2,
        "year": 2,
        "quality": 2,
    }
    assert configs["quality"]["labels"] == {"kind": "ordered"}
    assert len(configs["tags"]["labels"]["thresholds"]) == 3
    assert configs["year"]["classes"] == []


def test_eval_measures_all_tasks_that_the_table_has(run: Run, hub: Path, pictures: Path) -> None:
    result = run("eval", hub, pictures / "labels.csv", "--json", "--precision", "32")
    assert result.code == 0
    entries = {entry["task"]: entry for entry in result.json["tasks"]}
    assert {task: entry["kind"] for task, entry in entries.items()} == KINDS
    for task, figures in FIGURES.items():
        assert figures <= entries[task].keys()
        trained = json.loads((hub / "tasks" / task / "metrics.json").read_text())["test"]
        assert {key: entries[task][key] for key in trained} == pytest.approx(trained, abs=1e-5)
    assert entries["tags"]["per_class"].keys() == {"red", "green", "blue"}


def test_eval_of_a_folder_measures_the_task_of_its_classes(run: Run, hub: Path, pictures: Path, tmp_path: Path) -> None:
    """The names of its folders are no numbers and no tags of the other tasks."""
    for number in range(4):
        folder = tmp_path / "new" / ("cold", "warm")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / f"{number}.png", folder)
    result = run("eval", hub, tmp_path / "new", "--json")
    assert (result.code, result.err.count("error")) == (0, 0)
    assert [entry["task"] for entry in result.json["tasks"]] == ["body"]


def test_eval_of_one_task_has_its_figures_at_the_top(run: Run, hub: Path, pictures: Path) -> None:
    result = run("eval", hub, pictures / "labels.csv", "--task", "year", "--json")
    assert FIGURES["year"] <= result.json.keys()
    table = run("eval", hub, pictures / "labels.csv", "--task", "tags,year", "--per-class")
    assert {"mAP", "MAE", "threshold"} <= set(table.out.replace(",", " ").split())
    assert re.search(r"\byear +\d\S* AD +\d\S* AD +\d", table.out), "MAE and RMSE have the unit, R² has none"


def test_eval_names_a_task_that_it_leaves_out(run: Run, hub: Path, pictures: Path, tmp_path: Path) -> None:
    table = changed(pictures, tmp_path / "new.csv", "body", lambda n, cell: "rusty" if n == 2 else cell)
    result = run("eval", hub, table, "--root", pictures, "--json")
    assert result.code == 0
    assert {entry["task"] for entry in result.json["tasks"]} == KINDS.keys() - {"body"}
    assert "task body is not measured" in result.err
    assert "it has rusty" in result.err


def test_predict_gives_the_fields_of_each_kind(run: Run, hub: Path, pictures: Path) -> None:
    [first, *_] = run("predict", hub, pictures / "7.png", "--json").json
    tasks = first["tasks"]
    assert {task: entry["kind"] for task, entry in tasks.items()} == KINDS
    assert tasks["tags"]["tags"][0].keys() == {"tag", "probability", "on"}
    assert {entry["tag"] for entry in tasks["tags"]["tags"] if entry["on"]} == {"red", "green", "blue"}
    assert isinstance(tasks["year"]["value"], float)
    assert tasks["quality"]["grade"] == "good"
    assert [entry["grade"] for entry in tasks["quality"]["grades"]] == ["bad", "fair", "good"]
    table = run("predict", hub, pictures / "7.png").out
    assert "answer" in table
    assert "red" in table
    answer = rf"\byear +{tasks['year']['value']:.4g} AD *$"
    assert re.search(answer, table, re.MULTILINE)
    assert tasks["year"]["unit"] == "AD"
    rejected = run("predict", hub, pictures / "7.png", "--reject", "0.999").out
    assert re.search(r"\byear +unknown \(most likely \d+ AD\) +\d", rejected)


def test_hub_commands_name_the_kind(run: Run, hub: Path) -> None:
    entries = run("hub", "list", hub, "--json").json
    assert {entry["task"]: entry["kind"] for entry in entries} == KINDS
    for command in (("list", hub), ("log", hub, "year")):
        assert re.search(r"\bmae [\d.]+ AD\b", run("hub", *command).out)
    assert run("hub", "verify", hub).code == 0
    assert run("hub", "show", f"{hub}/year").code == 0


@pytest.mark.slow
def test_an_exported_file_names_its_outputs(run: Run, hub: Path, pictures: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert run("export", hub, tmp_path / "hub.onnx").code == 0
    session = onnxruntime.InferenceSession(tmp_path / "hub.onnx", providers=["CPUExecutionProvider"])
    labels = json.loads(session.get_modelmeta().custom_metadata_map["snow.labels"])
    assert {task: entry["kind"] for task, entry in labels.items()} == KINDS
    image = to_batch([pictures / "7.png"], Hub.open(hub).source.preprocessing).numpy()
    outputs = dict(zip([one.name for one in session.get_outputs()], session.run(None, {"images": image}), strict=True))
    [answer] = run("predict", hub, pictures / "7.png", "--json").json
    assert outputs["year"].item() == pytest.approx(answer["tasks"]["year"]["value"], abs=0.05)
    assert outputs["quality"].sum() == pytest.approx(1, abs=1e-5)
    grades = [entry["probability"] for entry in answer["tasks"]["quality"]["grades"]]
    assert outputs["quality"][0].tolist() == pytest.approx(grades, abs=1e-2)


@pytest.mark.slow
def test_a_run_with_tags_continues_where_it_was_stopped(run: Run, hub: Path, pictures: Path, tmp_path: Path) -> None:
    """With a cache and several kinds; the same command again starts from its checkpoint, or refuses another kind."""
    new = tmp_path / "hub"
    command = ("train", pictures / "labels.csv", "--hub", new, *LABELS, *TINY, *QUICK, "--cache", "1GB")
    assert run(*command).code == 0
    assert (run(*command).code, run(*command, "--replace").code) == (2, 0)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("--kind", "body=number"), ("line 2", "is not a number")),
        (("--kind", "body=colour"), ("no kind of label 'colour'",)),
        (("--kind", "other=multi"), ("a kind is given for 'other'",)),
        (("--kind", "body"), ("TASK=KIND",)),
        (("--kind", "body=ordered"), ("the order of the grades", "ordered:cold<warm")),
        (("--class-weights", "warm=0"), ("weights above zero",)),
        (("--class-weights", "wram=2"), ("'wram'", "no class and no tag of", "'warm'")),
    ],
)
def test_bad_labels_are_one_line(
    refused: Callable[..., str], pictures: Path, tmp_path: Path, labels: tuple[str, ...], words: tuple[str, ...]
) -> None:
    line = refused("train", pictures / "labels.csv", "--tasks", "body", "--hub", tmp_path / "hub", *labels, *TINY)
    assert all(word in line for word in words)


def changed(pictures: Path, table: Path, column: str, value: Callable[[int, str], str]) -> Path:
    """Copy the table beside the pictures with other cells in a column."""
    with (pictures / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for number, row in enumerate(rows):
            writer.writerow({**row, column: value(number, row[column])})
    return table


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("year", lambda _, cell: "", ("all cells of column 'year' are empty",)),
        ("year", lambda _, cell: "1990", ("at least two different numbers",)),
        ("year", lambda n, cell: "new" if n == 8 else cell or "1", ("line 10", "'new' is not a number")),
        ("tags", lambda n, cell: "odd" if n == 2 else cell, ("test split of task 'tags' has 'odd'",)),
        ("quality", lambda n, cell: "worse" if n == 3 else cell, ("'worse'", "which the order does not name")),
    ],
)
def test_bad_tables_are_one_line(
    refused: Callable[..., str],
    pictures: Path,
    tmp_path: Path,
    column: str,
    value: Callable[[int, str], str],
    words: tuple[str, ...],
) -> None:
    table = changed(pictures, tmp_path / "bad.csv", column, value)
    line = refused("train", table, "--root", pictures, "--hub", tmp_path / "hub", *LABELS, *TINY)
    assert all(word in line for word in words), line


def test_a_tag_that_never_occurs_is_refused(refused: Callable[..., str], pictures: Path, tmp_path: Path) -> None:
    rows = [f"{number}.png,{'test' if number % 3 == 2 else 'train'},1,0" for number in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["path,split,tags:a,tags:b", *rows]))
    line = refused("train", tmp_path / "t.csv", "--root", pictures, "--tasks", "tags", "--hub", tmp_path / "hub", *TINY)
    assert "tag 'b' of task 'tags' occurs on no training picture" in line


def test_a_bad_table_loses_nothing(run: Run, hub: Path, pictures: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(hub, tmp_path / "hub"))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    table = changed(pictures, tmp_path / "bad.csv", "year", lambda *_: "old")
    assert run("train", table, "--root", pictures, "--hub", copy, "--replace", *LABELS).code == 2
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("method", ["fo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ft", "head2toe"))])
def test_rivals_learn_every_kind(method: str, run: Run, pictures: Path, tmp_path: Path) -> None:
    quick = [*QUICK[2:], "--epochs", "1"]
    result = run(
        "train", pictures / "labels.csv", "--hub", tmp_path / "hub", *LABELS, *TINY, *quick, "--method", method
    )
    assert result.code == 0


def test_a_method_for_classes_refuses_tags_in_one_line(
    refused: Callable[..., str], pictures: Path, tmp_path: Path
) -> None:
    options = ("--hub", tmp_path / "hub", "--tasks", "tags", "--kind", "tags=multi", *TINY, "--method", "lf")
    line = refused("train", pictures / "labels.csv", *options)
    assert "method lf learns one class per picture, not labels of kind multi" in line


def test_methods_are_compared_on_a_number(run: Run, pictures: Path) -> None:
    options = ("--label", "year", "--kind", "year=number", "--methods", "fo,snow", "--rates", "0.01", "--no-costs")
    result = run("compare", pictures / "labels.csv", *options, *TINY, *QUICK[2:], "--epochs", "2", "--json")
    assert result.code == 0
    assert result.json["kind"] == "number"
    assert {"mae", "rmse"} <= result.json["methods"]["snow"].keys()


def test_options_are_swept_for_tags(run: Run, pictures: Path) -> None:
    pytest.importorskip("optuna")
    options = ("--label", "tags", "--kind", "tags=multi", "--over", "keep=1/4,1/8")
    result = run("sweep", pictures / "labels.csv", *options, *TINY, *QUICK[2:], "--epochs", "2", "--json")
    assert result.code == 0
    assert result.json["best"]["score"] == result.json["best"]["map"]


def test_class_weights_change_what_is_learned(run: Run, pictures: Path, tmp_path: Path) -> None:
    command = ("train", pictures / "labels.csv", "--hub", tmp_path / "hub", "--labels", "body", *TINY, *QUICK, "--json")
    plain = run(*command, "--task", "plain").json["tasks"][0]
    weighted = run(*command, "--task", "weighted", "--class-weights", "warm=20").json["tasks"][0]
    assert plain["history"] != weighted["history"] if "history" in plain else plain != weighted
    config = json.loads((tmp_path / "hub/tasks/weighted/config.json").read_text())
    assert config["training"]["recipe"]["class_weights"] == "warm=20"


def test_thresholds_keep_a_precision_and_rare_labels_are_drawn_as_often(
    run: Run, refused: Callable[..., str], pictures: Path, tmp_path: Path
) -> None:
    command = (
        "train",
        pictures / "labels.csv",
        "--hub",
        tmp_path / "hub",
        "--tasks",
        "tags",
        *LABELS[2:3],
        "tags=multi",
    )
    options = (*TINY, *QUICK, "--sampling", "balanced", "--thresholds", "precision=0.95")
    assert run(*command, *options).code == 0
    config = json.loads((tmp_path / "hub/tasks/tags/config.json").read_text())
    assert config["training"]["recipe"]["sampling"] == "balanced"
    assert config["training"]["recipe"]["thresholds"] == "precision=0.95"
    assert "thresholds must be f1" in refused(*command, *TINY, "--thresholds", "precision")


REPORTED = {
    "body": {"confusion.png", "reliability.png", "classes.csv", "doubtful.jpg"},
    "tags": {"tags.png", "classes.csv", "doubtful.jpg"},
    "year": {"numbers.png", "mistakes.jpg"},
    "quality": {"confusion.png", "classes.csv", "doubtful.jpg"},
}


def test_a_report_has_every_answer(run: Run, hub: Path, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = ("eval", hub, pictures / "labels.csv", "--report", tmp_path / "report", "--json")
    entries = {entry["task"]: entry for entry in run(*command).json["tasks"]}
    for task, files in REPORTED.items():
        folder = tmp_path / "report" / task
        assert files | {"report.json", "report.html", "answers.csv"} <= {path.name for path in folder.iterdir()}
        with (folder / "answers.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == entries[task]["images"]
        if task != "year":
            right = sum(row["right"] == "1" for row in rows) / len(rows)
            assert task == "tags" or right == pytest.approx(entries[task]["top1"])
        assert json.loads((folder / "report.json").read_text())["mistakes"] == entries[task]["mistakes"]
    assert entries["body"]["reliability"][-1].keys() == {"from", "to", "images", "confidence", "accuracy"}
    assert re.search(r"<th>MAE<td>[\d.]+ AD<", (tmp_path / "report" / "year" / "report.html").read_text("utf-8"))
    assert run(*command).code == 0, "a report is replaced"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_report_takes_any_name(pictures: Path, tmp_path: Path) -> None:
    """A class that matplotlib would take for a formula, and a file whose name is not UTF-8."""
    pytest.importorskip("matplotlib")
    kind = ClassKind(("costs $\\frac$", "a$b"))
    (tmp_path / "pictures").mkdir()
    items = [Path(os.fsdecode(os.fsencode(tmp_path / "pictures") + b"/caf\xe9%d.png" % n)) for n in range(4)]
    for item in items:
        shutil.copy(pictures / "0.png", item)
    evidence = torch.tensor([[0, 0, 0.9, 0], [0, 1, 0.8, 1], [1, 1, 0.7, 0], [1, 1, 0.6, 0]])
    results = write_report(tmp_path / "report", "t", kind, items, kind.metrics(evidence))
    assert results["top1"] == 0.75
    assert "caf\\udce91.png" in (tmp_path / "report" / "answers.csv").read_text("utf-8")


def test_a_report_replaces_nothing_else(refused: Callable[..., str], hub: Path, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    command = ("eval", hub, pictures / "labels.csv", "--task", "body", "--report", tmp_path / "mine")
    assert "holds something else than a report" in refused(*command)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
