"""What a results file says of how it was made."""

from __future__ import annotations

import pytest

from snow.experiments.results.record import provenance


@pytest.mark.parametrize("program", ["/opt/env/bin/snow", ".venv/bin/snow", "/opt/env/snow/__main__.py"])
def test_the_command_can_be_given_again_elsewhere(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [program, "compare", "/home/someone/pictures", "--out", "results.json"])
    assert provenance()["command"] == "snow compare pictures --out results.json"
