from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snow.data import Dataset, open_dataset
from snow.data.cells import read_columns, read_lines
from snow.errors import SnowError


@pytest.fixture
def root(tmp_path, draw) -> Path:
    for number in range(6):
        draw(tmp_path / "pictures" / f"{number}.png", seed=number)
    return tmp_path


def write(root: Path, *lines: str, name: str = "table.csv") -> Path:
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


def labels(dataset: Dataset) -> dict[str, list[int]]:
    return {
        path.stem: row
        for pictures in (dataset.train, dataset.test)
        for path, row in zip(pictures.items, pictures.labels.tolist(), strict=True)
    }


def refused(file: Path, message: str, **options: object) -> None:
    with pytest.raises(SnowError, match=message):
        open_dataset(file, **options)


LINES = [f"pictures/{n}.png,{('cat', 'dog')[n % 2]},{'train' if n < 4 else 'test'}" for n in range(6)]


def test_paths_labels_and_split(root):
    dataset = open_dataset(write(root, "path,label,split", *LINES), task="pets")
    assert dataset.tasks[0].name == "pets"
    assert dataset.tasks[0].classes == ("cat", "dog")
    assert [path.stem for path in dataset.train.items] == ["0", "1", "2", "3"]
    assert [path.stem for path in dataset.test.items] == ["4", "5"]
    assert labels(dataset) == {str(n): [n % 2] for n in range(6)}
    assert dataset.warnings == ()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_delimiters_quotes_spaces_and_byte_order_mark(root, delimiter, start):
    lines = [f'"pictures/{n}.png"{delimiter} {("cat, big", "dog")[n % 2]} ' for n in range(6)]
    lines = [line if delimiter != "," else line.replace(" cat, big ", '"cat, big"') for line in lines]
    dataset = open_dataset(write(root, f"{start}path{delimiter}kind", "", *lines))
    assert dataset.tasks[0].classes == ("cat, big", "dog")
    assert labels(dataset) == {str(n): [n % 2] for n in range(6)}


def test_without_a_split_each_class_is_divided(root):
    dataset = open_dataset(write(root, "path,label", *(line.rpartition(",")[0] for line in LINES)), test_fraction=0.4)
    assert len(dataset.train) == 4
    assert sorted(dataset.test.labels.flatten().tolist()) == [0, 1]


def test_several_label_columns_are_several_tasks(root):
    lines = ["path,kind,size", "pictures/0.png,cat,big", "pictures/1.png,dog,", "pictures/2.png,,small"]
    lines += ["pictures/3.png,,", "pictures/4.png,cat,small", "pictures/5.png,dog,big"]
    dataset = open_dataset(write(root, *lines), labels=["size", "kind"])
    assert [task.name for task in dataset.tasks] == ["size", "kind"]
    assert [task.classes for task in dataset.tasks] == [("big", "small"), ("cat", "dog")]
    assert labels(dataset) == {"0": [0, 0], "1": [-1, 1], "2": [1, -1], "4": [1, 0], "5": [0, 1]}
    assert dataset.warnings[0] == f"skipped {root / 'table.csv'}, line 5: there is no label"
    assert all("no test picture of" in line for line in dataset.warnings[1:])


def test_a_table_without_a_row_that_fits_says_why(root):
    rows = [f"pictures/{n}.png,4,{n} mm" for n in range(4)]  # a decimal comma in a file with commas
    with pytest.raises(SnowError, match=r"no rows under the header \(4 skipped in all, .*3 cells under a header of 2"):
        open_dataset(write(root, "path,size", *rows))


def test_rows_that_cannot_be_used_are_skipped_with_a_line_each(root):
    (root / "pictures" / "bad.png").touch()
    lines = ["../outside.png,cat,train", f"{root.parent}/outside.png,cat,train", "pictures/9.png,cat,train"]
    lines += [",cat,train", "pictures/0.png,cat,train", "pictures/0.png,cat", "pictures/0.png,cat,train,more"]
    lines += ["pictures/1.png,,train", "pictures/2.png,dog,", "pictures/bad.png,dog,train"]
    rows = [LINES[0], LINES[3], LINES[4], LINES[5]]
    dataset = open_dataset(write(root, "path,label,split", *rows, *lines))
    name = root / "table.csv"
    assert dataset.warnings == (
        f"skipped {name}, line 11: 2 cells under a header of 3",
        f"skipped {name}, line 12: 4 cells under a header of 3",
        f"skipped {name}, line 14: the split is empty",
        f"skipped {name}, line 6: {root.parent}/outside.png does not exist",
        f"skipped {name}, line 7: {root.parent}/outside.png does not exist",
        f"skipped {name}, line 8: {root}/pictures/9.png does not exist",
        f"skipped {name}, line 9: the path is empty",
        f"skipped {name}, line 10: {root}/pictures/0.png is listed twice",
        f"skipped {name}, line 13: there is no label",
        f"skipped {root}/pictures/bad.png: the file is empty",
    )
    assert labels(dataset) == {"0": [0], "3": [1], "4": [0], "5": [1]}


def test_a_path_inside_may_be_absolute_or_roundabout(root):
    lines = [f"{root}/pictures/0.png,cat", "pictures/../pictures/1.png,dog", "./pictures/2.png,cat"]
    dataset = open_dataset(write(root, "path,label", *lines, "pictures/3.png,dog"))
    assert labels(dataset) == {str(n): [n % 2] for n in range(4)}


def test_a_table_may_lie_beside_its_pictures(root):
    (root / "tables").mkdir()
    for start in ("..", str(root)):
        lines = [f"{start}/{line.rpartition(',')[0]}" for line in LINES]
        dataset = open_dataset(write(root, "path,label", *lines, name="tables/labels.csv"))
        assert labels(dataset) == {str(n): [n % 2] for n in range(6)}
        assert len(dataset.warnings) == 0


def test_a_root_is_where_paths_start_and_where_pictures_lie(root, draw):
    outside = draw(root / "outside.png", seed=50)
    (root / "tables").mkdir()
    lines = [line.rpartition(",")[0].removeprefix("pictures/") for line in LINES]
    lines += ["../outside.png,cat", f"{outside},cat"]
    file = write(root, "path,label", *lines, name="tables/labels.csv")
    dataset = open_dataset(file, root=root / "pictures")
    assert labels(dataset) == {str(n): [n % 2] for n in range(6)}
    assert dataset.warnings == (
        f"skipped {file}, line 8: ../outside.png is outside {root}/pictures",
        f"skipped {file}, line 9: {outside} is outside {root}/pictures",
    )
    write(root, "path,label", *lines[:6], name="tables/labels.csv")
    refused(file, f"no picture is there, as {root}/tables/0.png: paths start in {root}/tables, or in root=FOLDER")
    refused(file, "nowhere: there is no such folder", root=root / "nowhere")
    refused(root / "pictures", "root is for a table or a named data set", root=root)


def test_paths_of_windows_and_of_other_unicode_forms_are_found(root, draw):
    draw(root / "pictures" / "caf\u00e9.png", seed=60)
    draw(root / "pictures" / "the\u0301.png", seed=61)
    lines = [rf"pictures\{n}.png,{('cat', 'dog')[n % 2]}" for n in range(4)]
    lines += ["pictures/cafe\u0301.png,cat", "pictures/th\u00e9.png,dog"]
    dataset = open_dataset(write(root, "path,label", *lines))
    assert len(labels(dataset)) == 6
    assert dataset.warnings == ()


def test_a_path_with_two_labels_or_splits_is_refused(root):
    for second in ("pictures/0.png,dog,train", "pictures/../pictures/0.png,cat,test"):
        refused(write(root, "path,label,split", *LINES, second), "line 8: .* listed twice, with different")


def test_splits(root):
    for name in ("VAL", "Test_Set"):
        spelled = [line.replace("test", name) for line in LINES]
        assert len(open_dataset(write(root, "path,label,split", *spelled)).test) == 2
    val = [line.replace("test", "VAL") for line in LINES]
    assert len(open_dataset(write(root, "path,label,split", *val)).test) == 2
    both = open_dataset(write(root, "path,label,split", *LINES[:5], "pictures/5.png,dog,val"))
    assert both.warnings[0] == f"ignored in {root / 'table.csv'}: 1 rows of split 'val', 'test' is used"
    assert len(both.train) + len(both.test) == 5
    alone = open_dataset(write(root, "path,label,split", *LINES[:4]))
    assert (len(alone.train), len(alone.test)) == (2, 2)
    assert "20% of 'train' is held out for testing (seed 0)" in alone.warnings[0]
    refused(write(root, "path,label,split", *LINES[4:]), "no row is in the split 'train'")
    refused(write(root, "path,label,split", *LINES, "pictures/5.png,dog,dev"), "line 8: unknown split 'dev'")


def test_class_rules_hold_for_tables(root):
    refused(write(root, "path,label,split", *LINES[:5], "pictures/5.png,cow,test"), "has 'cow', which training has not")
    refused(write(root, "path,label,split", *LINES, "pictures/9.png,cow,train"), "class 'cow' .*9.png does not exist")
    refused(write(root, "path,label", "pictures/0.png,cat", "pictures/1.png,cat"), "only 'cat'")
    refused(write(root, "path,label"), "there are no rows")


def test_columns_that_are_missing_or_unclear_are_refused_with_those_there_are(root):
    there = "the columns are 'file', 'label'"
    refused(write(root, "file,label", "a,b"), f"no column 'path'; {there}")
    refused(write(root, "path,kind,size", "a,b,c"), "which columns are labels.*the columns are 'path', 'kind', 'size'")
    refused(write(root, "path,split", "a,train"), "which columns are labels")
    for wrong in ("colour", "path", "split"):
        refused(write(root, "path,label,split", *LINES), f"'{wrong}' cannot be a label column", labels=[wrong])
    refused(write(root, "path,kind", "a,b"), "label column 'kind' is named twice", labels=["kind", "kind"])
    refused(write(root, "path,label,path", "a,b,c"), "more than one column 'path'")


def test_files_that_are_no_table_are_refused(root):
    file = root / "bad.csv"
    for content, message in {
        b"": "the file is empty",
        b"\n \n": "the file is empty",
        "path,label\na.png,caf\u00e9\n".encode("latin-1"): "not UTF-8 at byte 20",
        "path,label\na.png,cat\n".encode("utf-16"): "not UTF-8 at byte 0",
        b'path,label\n"a.png,cat\n': "not a CSV file",
    }.items():
        file.write_bytes(content)
        refused(file, rf"bad\.csv: {message}")


def test_an_unreadable_table_is_refused(root, monkeypatch):
    file = write(root, "path,label")

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    refused(file, r"cannot be read \(Permission denied\)")


def test_parquet(root):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    paths = [f"pictures/{n}.png" for n in range(6)]
    columns = {
        "path": paths,
        "label": arrow.array(["cat", "dog", None] * 2).dictionary_encode(),
        "count": [1.0, 2.0, None, 1.0, 2.0, float("nan")],
        "unused": [b"\0"] * 6,
        "split": ["train"] * 4 + ["test"] * 2,
    }
    file = root / "table.parquet"
    parquet.write_table(arrow.table(columns), file)
    dataset = open_dataset(file, labels=["label", "count"])
    assert [task.classes for task in dataset.tasks] == [("cat", "dog"), ("1", "2")]
    assert labels(dataset) == {"0": [0, 0], "1": [1, 1], "3": [0, 0], "4": [1, 1]}
    assert dataset.warnings[:2] == tuple(f"skipped {file}, row {n}: there is no label" for n in (3, 6))
    refused(file, "row 1: a cell of type bytes is neither text nor a number", labels=["unused"])
    refused(file, "cannot be a label column; .*'unused', 'split'", labels=["colour"])
    file.write_bytes(b"not parquet")
    refused(file, "not a readable Parquet file")


def test_parquet_without_pyarrow_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (root / "table.parquet").touch()
    refused(root / "table.parquet", r"pip install 'snow-cnn\[parquet\]'")


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12).map(str.strip)


@given(st.lists(st.tuples(text.filter(bool), text, text), max_size=8))
def test_any_cells_come_back_as_they_were_written(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("csv") / "table.csv"
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    file.write_text("\r\n".join(["path,label,split", *quoted]), encoding="utf-8", newline="")
    assert read_columns(file) == ["path", "label", "split"]
    lines, warnings = read_lines(file, ["split", "path"])
    assert [line.cells for line in lines] == [(split, path) for path, _, split in rows]
    assert [line.where for line in lines] == [f"line {number}" for number in range(2, len(rows) + 2)]
    assert not warnings


def test_a_column_that_leaves_few_pictures_to_test_on_is_named(root, draw):
    names = [f"pictures/{number}.png" for number in range(20)]
    for number, name in enumerate(names):
        draw(root / name, seed=number)

    def table(*serials: int) -> Path:
        rows = (f"{name},{'lr'[n % 2]},s{serial}" for n, (name, serial) in enumerate(zip(names, serials, strict=True)))
        return write(root, "path,side,serial", *rows)

    dataset = open_dataset(table(*(max(5, n) for n in range(20))), labels=["side", "serial"], test_fraction=0.4)
    assert any("task 'serial' has 14 of 15 classes with a single picture" in line for line in dataset.warnings)
    fault = "task 'serial' has 20 of 20 classes with a single picture, .*none is left to test on"
    refused(table(*range(20)), fault, labels=["side", "serial"])
    assert not any("single" in line for line in open_dataset(table(*range(20)), labels=["side"]).warnings)
