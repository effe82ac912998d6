"""A results file has one writer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from snow.compare.record import alone
from snow.errors import SnowError

TRY = "import sys; from pathlib import Path; from snow.compare.record import alone\nwith alone(Path(sys.argv[1])): pass"


def entered(out: Path) -> subprocess.CompletedProcess[str]:
    """Another process tries."""
    return subprocess.run([sys.executable, "-c", TRY, str(out)], capture_output=True, text=True)


def test_a_second_process_is_refused_as_long_as_the_first_is_at_work(tmp_path: Path) -> None:
    out = tmp_path / "new" / "results.json"
    with alone(out):
        refused = entered(out)
        assert f"{out} is being written by another process" in refused.stderr
        assert entered(out.with_name("other.json")).returncode == 0
    assert entered(out).returncode == 0


def test_it_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), alone(tmp_path, folder=True):
        raise ValueError("broken")
    with alone(tmp_path, folder=True):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_without_a_file_there_is_nothing_to_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with alone(None), alone(None, folder=True):
        assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SnowError, match="results.json cannot be written"), alone(tmp_path / "file" / "results.json"):
        pass
