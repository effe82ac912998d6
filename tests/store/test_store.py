"""Folders that change in one step: what readers see, what killed writers leave, links and pipes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snow.errors import SnowError
from snow.store import Store, atomic_file, atomic_folder, files, store
from snow.store.files import exchange

KILLS = 300
FILES = ("config.json", "model.safetensors")

both_ways = pytest.mark.parametrize("steps", ["one step", "two steps"], indirect=True)


@pytest.fixture
def tasks(tmp_path: Path) -> Store:
    (tmp_path / "tasks").mkdir()
    return Store(tmp_path / "tasks", tmp_path / ".lock")


@pytest.fixture
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run with and without the system call that exchanges two folders."""
    if request.param == "two steps":
        monkeypatch.setattr(files, "exchange", lambda first, second: False)
    return request.param


def write(tasks: Store, name: str, text: str, replace: bool = False) -> None:
    with tasks.writing(name, replace) as folder:
        for file in FILES:
            (folder / file).write_text(text)


def texts(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.iterdir()}


def test_a_folder_is_written_read_replaced_and_removed(tasks: Store) -> None:
    assert (tasks.names(), tasks.has("a")) == ([], False)
    write(tasks, "a", "old")
    assert (tasks.names(), tasks.has("a"), tasks.read("a", texts)) == (["a"], True, {"old"})
    with pytest.raises(SnowError, match="is there already"):
        write(tasks, "a", "new")
    assert tasks.read("a", texts) == {"old"}
    write(tasks, "a", "new", replace=True)
    assert tasks.read("a", texts) == {"new"}
    assert (tasks.remove("a"), tasks.remove("a"), tasks.names()) == (True, False, [])
    assert list(tasks.root.iterdir()) == []


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    tasks = Store(tmp_path / "nowhere", tmp_path / ".lock")
    assert tasks.names() == []
    with pytest.raises(SnowError, match="cannot be read"):
        tasks.read("a", texts)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may have no such step")
def test_two_folders_change_places_in_one_step(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()
    assert not exchange(tmp_path / "a", tmp_path / "nowhere")
    assert (tmp_path / "a" / "b").exists()


@both_ways
def test_killed_writers_lose_nothing_and_leave_nothing_for_long(steps: str, tasks: Store, tmp_path: Path) -> None:
    """Two writers, one reader. Each writer is killed at some moment, and each version that it reported is there."""
    script = Path(__file__).parent / "killed.py"
    arguments = [tmp_path, KILLS // 2, 1, *(["two-steps"] if steps == "two steps" else [])]
    ended = subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    replaced, coming, in_the_middle = map(int, ended.stdout.split())
    assert min(replaced, coming, in_the_middle) > 3


@both_ways
def test_a_reader_never_sees_half_of_each_version(steps: str, tasks: Store) -> None:
    """A replacement in the middle of a read makes it begin again."""
    write(tasks, "a", "0")
    replaced = 0

    def read_slowly(folder: Path) -> list[str]:
        nonlocal replaced
        first = (folder / FILES[0]).read_text()
        if replaced < 5:
            replaced += 1
            write(tasks, "a", str(replaced), replace=True)
        return [first, (folder / FILES[1]).read_text()]

    assert tasks.read("a", read_slowly) == ["5", "5"]


def test_a_folder_that_never_stays_the_same_is_one_line(tasks: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ATTEMPTS", 3)
    write(tasks, "a", "0")
    with pytest.raises(SnowError, match="changes all the time"):
        tasks.read("a", lambda folder: write(tasks, "a", "1", replace=True))


def test_a_folder_that_goes_while_it_is_read_is_missing(tasks: Store) -> None:
    write(tasks, "a", "0")

    def read(folder: Path) -> set[str]:
        tasks.remove("a")
        return texts(folder)

    with pytest.raises(SnowError, match="cannot be read"):
        tasks.read("a", read)


def test_a_folder_that_goes_while_its_status_is_read_has_no_stamp(
    tasks: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An iterator that is left open warns, and warnings are errors."""
    write(tasks, "a", "one")

    class Removing(contextlib.ExitStack):
        """Entries of a folder each of which is gone when it is asked for its status."""

        def __init__(self, folder: Path) -> None:
            super().__init__()
            self.entries = self.enter_context(scandir(folder))

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            for entry in self.entries:
                os.unlink(entry)
                yield entry

    scandir = os.scandir
    monkeypatch.setattr("os.scandir", Removing)
    assert tasks.stamp("a") == ()


@pytest.mark.parametrize("steps", ["two steps"], indirect=True)
def test_without_that_step_the_old_version_counts_until_the_new_one_is_there(
    steps: str, tasks: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the two steps, a replacement has not happened, and the next writer puts things right."""
    write(tasks, "a", "old")
    rename = Path.rename

    def stopped(path: Path, target: Path) -> Path:
        if target.name == "a":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", stopped)
        with pytest.raises(KeyboardInterrupt):
            write(tasks, "a", "new", replace=True)
    assert [path.name for path in tasks.root.iterdir()] == [".a.old"]
    assert (tasks.names(), tasks.has("a"), tasks.read("a", texts)) == (["a"], True, {"old"})
    with pytest.raises(SnowError, match="is there already"):
        write(tasks, "a", "other")
    assert [path.name for path in tasks.root.iterdir()] == ["a"]


def test_a_writer_that_fails_leaves_everything_as_it_was(tasks: Store) -> None:
    write(tasks, "a", "old")

    def fail(error: BaseException) -> None:
        with tasks.writing("a", replace=True) as folder:
            (folder / FILES[0]).write_text("half")
            raise error

    for error in (KeyboardInterrupt(), MemoryError(), SnowError("no")):
        with pytest.raises(type(error)):
            fail(error)
    with pytest.raises(SnowError, match="a cannot be written: .*disk is full"):
        fail(OSError("disk is full"))
    assert [path.name for path in tasks.root.iterdir()] == ["a"]
    assert tasks.read("a", texts) == {"old"}


def test_the_next_writer_clears_away_what_killed_ones_left_and_nothing_else(tasks: Store) -> None:
    write(tasks, "a", "0")
    for left in (".a.new", ".a.removed", ".b.abcd_123", ".a.b-c.removed", ".a.old"):
        (tasks.root / left).mkdir()
        (tasks.root / left / "config.json").touch()
    others = (".git", ".cache", ".a", ".notes.txt", ".a.new.mine")
    for name in others:
        (tasks.root / name).mkdir()
    assert tasks.names() == ["a"]
    write(tasks, "b", "0")
    assert {path.name for path in tasks.root.iterdir()} == {
        "a",
        "b",
        ".git",
        ".cache",
        ".a",
        ".notes.txt",
        ".a.new.mine",
    }


def test_writers_wait_for_one_another_but_not_for_ever(tasks: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[str] = []

    def add(name: str) -> None:
        with tasks.writing(name) as folder:
            inside.append(name)
            assert len(inside) == 1
            (folder / "config.json").touch()
            inside.remove(name)

    threads = [threading.Thread(target=add, args=(f"task-{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tasks.names()) == 12
    monkeypatch.setattr(store, "LOCK_TIMEOUT", 0.02)
    with tasks.locked(), pytest.raises(SnowError, match="is being written by another process"):
        Store(tasks.root, tasks.lock).remove("task-1")
    assert tasks.has("task-1")


def _link(folder: Path, elsewhere: Path) -> None:
    folder.symlink_to(elsewhere)


def _link_of_a_file(folder: Path, elsewhere: Path) -> None:
    folder.mkdir()
    (folder / "config.json").symlink_to(elsewhere / "config.json")


def _link_to_nothing(folder: Path, elsewhere: Path) -> None:
    folder.symlink_to(elsewhere / "nothing")


@pytest.mark.parametrize("make", [_link, _link_of_a_file, _link_to_nothing])
def test_links_are_not_followed(tasks: Store, tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.json").write_text("secret")
    make(tasks.root / "a", elsewhere)
    assert tasks.names() == ["a"]
    with pytest.raises(SnowError, match="is a link: a hub holds plain files"):
        tasks.read("a", texts)
    write(tasks, "a", "mine", replace=True)
    assert tasks.read("a", texts) == {"mine"}
    tasks.remove("a")
    make(tasks.root / "a", elsewhere)
    assert tasks.remove("a")
    assert (elsewhere / "config.json").read_text() == "secret"


def test_a_folder_of_folders_that_is_a_link_is_refused(tasks: Store, tmp_path: Path) -> None:
    write(tasks, "a", "0")
    tasks.root.rename(tmp_path / "elsewhere")
    tasks.root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SnowError, match="is a link"):
        tasks.read("a", texts)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_not_waited_for(tasks: Store) -> None:
    (tasks.root / "a").mkdir()
    os.mkfifo(tasks.root / "a" / "config.json")
    with pytest.raises(SnowError, match="neither a file nor a folder"):
        tasks.read("a", texts)


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "..", "con", "NUL.txt", "a."])
def test_unsafe_names_touch_nothing(tasks: Store, name: str) -> None:
    for use in (tasks.remove, tasks.has, lambda name: tasks.read(name, texts), lambda name: write(tasks, name, "")):
        with pytest.raises(SnowError, match="cannot name a task"):
            use(name)
    assert not tasks.lock.exists()


@pytest.mark.parametrize("error", [OSError("disk is full"), KeyboardInterrupt()])
def test_a_file_is_whole_or_as_it_was(tmp_path: Path, error: BaseException) -> None:
    with atomic_file(tmp_path / "file") as new:
        new.write_text("old")

    def fail() -> None:
        with atomic_file(tmp_path / "file") as new:
            new.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_file_in_the_place_of_a_folder_is_replaced_on_demand_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("file")
    with pytest.raises(SnowError, match="is there already"), atomic_folder(tmp_path / "a"):
        pass
    with atomic_folder(tmp_path / "a", replace=True):
        pass
    assert [path.is_dir() for path in tmp_path.iterdir()] == [True]


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o007, 0o660, 0o770)])
def test_files_get_the_permissions_of_the_umask(tmp_path: Path, umask: int, file_mode: int, folder_mode: int) -> None:
    """Whatever wrote them: safetensors makes its files private, and a copy has the permissions of its original."""
    before = os.umask(umask)
    try:
        with atomic_file(tmp_path / "weights") as new:
            new.unlink(missing_ok=True)
            os.close(os.open(new, os.O_CREAT | os.O_WRONLY, 0o600))
        with atomic_folder(tmp_path / "task") as folder:
            (folder / "inner").mkdir(0o700)
            (folder / "inner" / "file").touch(0o444)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"weights": file_mode, "task": folder_mode, "inner": folder_mode, "file": file_mode}
