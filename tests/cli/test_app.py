"""How any command begins and ends."""

from __future__ import annotations

import errno
import os
import select
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snow import __version__
from snow.cli.app import COMMANDS
from snow.hub import Hub

SNOW = [sys.executable, "-m", "snow"]


def test_help_lists_every_command_and_needs_no_torch() -> None:
    code = "import sys; from snow.cli import main; sys.exit(main(['--help']) or 'torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f" {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(run: Callable[..., Any], name: str) -> None:
    result = run(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Usage: snow {name}" in result.out
    assert f"Example: snow {name}" in result.out


def test_help_of_a_command_has_its_whole_description(run: Callable[..., Any]) -> None:
    shown = " ".join(run("compare", "--help").out.split())
    assert "The rate is chosen on held-out training images." in shown


def test_options_of_a_recipe_and_a_method_are_in_the_help_of_train(run: Callable[..., Any]) -> None:
    shown = run("train", "--help").out
    assert all(f"--{name} " in shown for name in ("epochs", "batch-size", "lr", "keep", "width", "sigma2", "taps"))


def test_version(run: Callable[..., Any]) -> None:
    assert run("--version").out.strip() == __version__


def test_an_unknown_option_is_refused_with_what_may_have_been_meant(refused: Callable[..., str]) -> None:
    assert "--image-size" in refused("taps", "resnet18", "--image-sise", "64")


def test_an_unknown_command_is_refused(refused: Callable[..., str]) -> None:
    assert '"train"' in refused("trian")


def test_a_missing_argument_is_refused(refused: Callable[..., str]) -> None:
    assert "--hub" in refused("train", "pictures", "--task", "one")


def test_a_refusal_ends_the_process_with_2_and_one_line() -> None:
    ended = subprocess.run([*SNOW, "hub", "list", "no-such-hub"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: no-such-hub is not a hub: it has no source.json\n"


def test_a_reader_that_has_gone_away_is_no_error(learned: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as nobody:
        ended = subprocess.run([*SNOW, "hub", "list", str(learned), "--json"], stdout=nobody, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.skipif(not hasattr(select, "poll"), reason="tells by poll who reads the output")
def test_a_connection_that_breaks_is_one_line(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, learned: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("snow.hub.Hub.open", broken)
    assert "Broken pipe" in refused("predict", learned, learned)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run([*SNOW, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (2, "error: the output cannot be written: No space left on device\n")


@pytest.mark.skipif(os.name != "posix", reason="closes streams with a shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_streams_may_be_closed(closed: str) -> None:
    for arguments, code in (("--version", 0), ("hub list no-such-hub", 2)):
        ended = subprocess.run(f"{shlex.join(SNOW)} {arguments} {closed}", shell=True, capture_output=True, text=True)
        assert (ended.returncode, "Traceback" in ended.stdout + ended.stderr) == (code, False)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the current folder")
def test_a_current_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone} && rmdir {gone} && {shlex.join(SNOW)} predict hub picture.jpg"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: the current folder has been removed: change to another one\n"


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A command that fails where nobody expects it."""
    monkeypatch.setattr(Hub, "open", lambda _path: 1 / 0)
    return ("export", "hub", "hub.onnx")


@pytest.mark.parametrize("home", ["a home", "no home"])
def test_an_unexpected_error_is_one_line_and_its_traceback_in_a_file(
    run: Callable[..., Any], faulty: tuple[str, ...], tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    if home == "no home":
        state.write_text("a file where the folder should be")
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(state))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = run(*faulty)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: unexpected ZeroDivisionError: division by zero (details in ")
    assert ended.err.count("\n") == 1
    (log,) = tmp_path.rglob("error-*.log")
    assert str(log) in ended.err
    text = log.read_text()
    assert text.startswith(f"snow {__version__}, Python 3")
    assert "Traceback (most recent call last)" in text
    assert "ZeroDivisionError" in text


def test_an_unexpected_error_is_raised_for_those_who_ask(
    run: Callable[..., Any], faulty: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNOW_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(*faulty)


def test_imports_of_a_command_do_not_wait_for_the_garbage_collector() -> None:
    code = """
import gc, sys
from snow.cli.app import main
from snow.process.startup import importing

with importing():
    assert not gc.isenabled()
    objects = [[] for _ in range(1000)]
assert gc.isenabled() and gc.get_freeze_count() >= 1000
gc.unfreeze()
sys.argv = ["snow", "params", "--help"]
main()
sys.exit(not gc.isenabled() or gc.get_freeze_count() < 1000)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
