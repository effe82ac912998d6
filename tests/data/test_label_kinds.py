"""Label columns of other kinds than classes, in every form of table and in folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from snow.data import open_dataset
from snow.data.label_cells import detect
from snow.errors import SnowError

Draw = Callable[..., None]


@pytest.fixture
def rows(tmp_path: Path, draw: Draw) -> list[dict[str, object]]:
    """Twelve pictures with tags, a number and a grade."""
    rows: list[dict[str, object]] = []
    for n in range(12):
        draw(tmp_path / f"{n}.png", seed=n)
        tags = [name for k, name in enumerate(("red", "dented")) if (n >> k) & 1]
        grade = ("bad", "fair", "good")[n % 3]
        rows.append({"path": f"{n}.png", "tags": tags, "size": 1.5 * n, "wear": grade})
    return rows


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    lines = [",".join(rows[0])]
    for row in rows:
        cells = ("|".join(cell) or "none" if isinstance(cell, list) else str(cell) for cell in row.values())
        lines.append(",".join(cells))
    path.write_text("\n".join(lines))
    return path


def write_jsonl(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def write_parquet(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def write_excel(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(["|".join(cell) or "none" if isinstance(cell, list) else cell for cell in row.values()])
    book.save(path)
    return path


WRITERS = {"t.csv": write_csv, "t.jsonl": write_jsonl, "t.parquet": write_parquet, "t.xlsx": write_excel}
KINDS = {"tags": "multi", "size": "number", "wear": "ordered"}


@pytest.mark.parametrize("name", WRITERS)
def test_every_table_gives_the_same_labels(name: str, tmp_path: Path, rows: list[dict[str, object]]) -> None:
    table = WRITERS[name](tmp_path / name, rows)
    dataset = open_dataset(table, labels=list(KINDS), kinds=KINDS)
    tags, size, wear = dataset.tasks
    assert [task.kind.name for task in dataset.tasks] == ["multi", "number", "ordered"]
    assert (tags.classes, size.classes, wear.classes) == (("dented", "red"), (), ("bad", "fair", "good"))
    assert len(dataset.train) + len(dataset.test) == 12
    for pictures in (dataset.train, dataset.test):
        for item, labels in zip(pictures.items, pictures.labels, strict=True):
            assert isinstance(item, Path)
            row = rows[int(item.stem)]
            targets = [task.targets[label] for task, label in zip(dataset.tasks, labels, strict=True)]  # ty: ignore
            assert targets[0].tolist() == [float(tag in row["tags"]) for tag in ("dented", "red")]  # ty: ignore
            assert targets[1].item() == row["size"]
            assert targets[2].sum() == ("bad", "fair", "good").index(str(row["wear"]))


def test_the_kind_is_found_and_said(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    table = write_csv(tmp_path / "t.csv", rows)
    dataset = open_dataset(table, labels=["tags", "size", "wear"])
    assert [task.kind.name for task in dataset.tasks] == ["multi", "number", "class"]
    said = [line for line in dataset.warnings if "taken for kind" in line]
    assert [line.partition("; ")[2] for line in said] == [
        "for classes: --kind tags=class",
        "for classes: --kind size=class",
    ]
    assert open_dataset(table, labels=["tags"], kinds={"tags": "class"}).tasks[0].kind.name == "class"


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ({"cat", "dog"}, "class"),
        ({"1", "2", "3"}, "class"),
        ({"1.0", "2.0"}, "class"),
        ({"0", "1/3", "2/3", "1"}, "ordered"),
        ({str(n / 10) for n in range(30)}, "number"),
        ({"red|old", "red"}, "multi"),
        ({'["red"]', "[]"}, "multi"),
        ({"1st", "2nd"}, "class"),
        ({"", "NaN"}, "class"),
        ({".5", ".25"}, "ordered"),
        ({"4,2 mm", "3.1mm"}, "ordered"),
        ({f"{n},{n % 7} mm" for n in range(12)}, "number"),
        ({f"{n} %" for n in range(12)} | {""}, "number"),
        ({f"€ {n}" for n in range(12)}, "number"),
        ({f"{n} doors" for n in range(12)}, "class"),
        ({f"{n}A" for n in range(12)}, "class"),
        ({"4.2 mm", "5 cm"}, "number"),  # and refused
        *(({f"{word}{n}" for n in range(12)}, "class") for word in ("A", "v", "no ")),
    ],
)
def test_kinds_that_cells_have(cells: set[str], kind: str) -> None:
    assert detect(cells).name == kind


def test_units_are_read_and_said(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    cells = [f"{n},{n % 7} mm" for n in range(12)]
    table = write_jsonl(tmp_path / "t.jsonl", [{**row, "size": cell} for row, cell in zip(rows, cells, strict=True)])
    dataset = open_dataset(table, labels=["size"])
    assert dataset.tasks[0].kind.describe() == "number, 0 to 11.4 mm"
    cells[3], cells[7] = "3,1 cm", "7"
    table = write_jsonl(tmp_path / "t.jsonl", [{**row, "size": cell} for row, cell in zip(rows, cells, strict=True)])
    with pytest.raises(SnowError, match=r"line 4, line 8: column 'size': .*'cm'.* --kind size=class"):
        open_dataset(table, labels=["size"])


def test_a_word_among_numbers_is_said(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    cells = [f"{n}.5" for n in range(11)] + ["unknown"]
    table = write_jsonl(tmp_path / "t.jsonl", [{**row, "size": cell} for row, cell in zip(rows, cells, strict=True)])
    with pytest.raises(SnowError, match="classes with a single picture.*since 'unknown' is not a number"):
        open_dataset(table, labels=["wear", "size"])


@pytest.mark.parametrize("name", WRITERS)
def test_fractions_are_the_same_grades_from_every_table(
    name: str, tmp_path: Path, rows: list[dict[str, object]]
) -> None:
    cells = ("0", "1/3", "2/3", "1") if name == "t.csv" else (0.0, 1 / 3, 2 / 3, 1.0)
    table = WRITERS[name](tmp_path / name, [{**row, "part": cells[n % 4]} for n, row in enumerate(rows)])
    [task] = open_dataset(table, labels=["part"]).tasks
    assert (task.kind.name, task.classes) == ("ordered", ("0", "1/3", "2/3", "1"))


def test_a_column_for_each_tag(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    lines = ["path,tags:red,tags:dented"]
    lines += [f"{n}.png,{n & 1},{'' if n == 3 else (n >> 1) & 1}" for n in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    dataset = open_dataset(tmp_path / "t.csv", labels=["tags"], task="tags")
    [task] = dataset.tasks
    assert (task.name, task.classes) == ("tags", ("dented", "red"))
    assert task.targets is not None
    assert sum(bool(row.isnan().any()) for row in task.targets) == 1
    (tmp_path / "t.csv").write_text("\n".join([*lines, "4.png,maybe,1"]))
    with pytest.raises(SnowError, match="line 14: column 'tags': 'maybe' is neither 1 nor 0 for the tag 'red'"):
        open_dataset(tmp_path / "t.csv", labels=["tags"])


def test_folders_can_be_grades(tmp_path: Path, draw: Draw) -> None:
    for n in range(12):
        draw(tmp_path / "wear" / ("new", "used", "worn")[n % 3] / f"{n}.png", seed=n)
    dataset = open_dataset(tmp_path / "wear", task="wear", kinds={"wear": "ordered:new<used<worn"})
    assert dataset.tasks[0].classes == ("new", "used", "worn")
    with pytest.raises(SnowError, match="a kind is given for 'other', and the tasks are wear"):
        open_dataset(tmp_path / "wear", task="wear", kinds={"other": "number"})
    with pytest.raises(SnowError, match="'new' is not a number"):
        open_dataset(tmp_path / "wear", task="wear", kinds={"wear": "number"})


def test_numbers_are_held_out_over_their_range(tmp_path: Path, draw: Draw) -> None:
    for n in range(40):
        draw(tmp_path / f"{n}.png", seed=n)
    (tmp_path / "t.csv").write_text("path,size\n" + "\n".join(f"{n}.png,{n}.5" for n in range(40)))
    dataset = open_dataset(tmp_path / "t.csv", labels=["size"], kinds={"task": "number"})
    targets = dataset.tasks[0].targets
    assert targets is not None
    held_out = targets[dataset.test.labels[:, 0]].flatten()
    assert len(held_out) == 10  # two of the eight in each fifth
    counts = torch.histc(held_out, 5, 0, 40)
    assert counts.min() >= 1
