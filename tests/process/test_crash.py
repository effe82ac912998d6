"""What a report of an unexpected error says, and what it keeps to itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from snow.process.crash import report_crash


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="logs have another place there")
@pytest.mark.parametrize("options", [["--token", "secret"], ["--token=secret"]])
def test_a_token_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["snow", "serve", "hub", *options])
    error = RuntimeError("two\nlines")
    error.add_note("the traceback of another process")
    line = report_crash(error, "1.0")
    (log,) = tmp_path.rglob("error-*.log")
    assert line == f"unexpected RuntimeError: two lines (details in {log}; SNOW_DEBUG=1 shows them here)"
    text = log.read_text()
    assert "snow serve hub --token" in text
    assert "secret" not in text
    assert "the traceback of another process" in text


def test_a_traceback_of_another_process_is_not_in_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snow.process.crash.log_folder", lambda: tmp_path)
    text = "Caught ValueError in a worker.\nOriginal Traceback (most recent call last):\n  File x\nValueError: why\n"
    line = report_crash(RuntimeError(text), "1.0")
    assert line.startswith("unexpected RuntimeError: ValueError: why (details in ")
    assert "Original Traceback" in next(tmp_path.iterdir()).read_text()


def test_a_report_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snow.process.crash.log_folder", lambda: tmp_path / "gone" / "\0")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file" / "folder"))
    (tmp_path / "file").write_text("")
    assert "its traceback cannot be written" in report_crash(ValueError("x"), "1.0")
