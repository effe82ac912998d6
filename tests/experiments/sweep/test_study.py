"""Trials on disk: what is done stays done, what was stopped is given up."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from snow.errors import SnowError
from snow.experiments.sweep import Option
from snow.experiments.sweep.study import Study

OPTIONS = (Option("keep", (0.25, 0.125)), Option("pooling.slots", ("index", "channel")), Option("batch_size", (8, 16)))
SETTING = {"keep": 0.125, "pooling.slots": "channel", "batch_size": 16}
IDENTITY = {"recipe": {"lr": 0.1, "seeds": (1, 2)}, "held_out": 0.25}


def study(path: Path | None, **changes: Any) -> Study:
    return Study(path, {**IDENTITY, **changes}, OPTIONS, seed=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "study.db"


def test_what_is_done_is_there_the_next_time(path: Path) -> None:
    first = study(path)
    for seed, result in enumerate(({"top1": 0.5, "images": 4}, {"diverged": "lr"})):
        first.finish(first.begin({**SETTING, "keep": 0.1875}, seed), result)
    first.finish(first.suggest(0), {"top1": 0.75})
    again = study(path).trials()
    assert [(trial.seed, trial.searched) for trial in again] == [(0, False), (1, False), (0, True)]
    assert again[0].setting == {**SETTING, "keep": 0.1875}
    assert [trial.result for trial in again] == [{"top1": 0.5, "images": 4}, {"diverged": "lr"}, {"top1": 0.75}]
    assert {type(value) for value in again[0].setting.values()} == {float, str, int}


def test_what_was_stopped_is_given_up(path: Path) -> None:
    first = study(path)
    first.begin(SETTING, 0)
    first.suggest(0)
    first._study.enqueue_trial(SETTING)
    again = study(path)
    assert again.trials() == []
    trial = again.begin({**SETTING, "keep": 0.25}, 3)
    assert (trial.setting["keep"], trial.seed) == (0.25, 3)


def test_suggestions_stay_in_the_ranges_and_go_on_where_they_were(path: Path) -> None:
    seen = []
    for _ in range(2):
        each = study(path)
        for _ in range(2):
            trial = each.suggest(0)
            each.finish(trial, {"top1": 0.5})
            seen.append(trial.setting)
    assert all(0.125 <= setting["keep"] <= 0.25 and 8 <= setting["batch_size"] <= 16 for setting in seen)
    assert len({setting["keep"] for setting in seen}) == 4


def test_another_sweep_is_refused(path: Path) -> None:
    study(path)
    with pytest.raises(SnowError, match=r"study.db holds another sweep: its recipe, held_out differ"):
        study(path, recipe={}, held_out=0.5)


def test_values_that_do_not_fit_beside_the_old_ones_are_refused(path: Path) -> None:
    first = study(path)
    first.finish(first.begin(SETTING, 0), {"top1": 0.5})
    other = Study(path, IDENTITY, (Option("pooling.slots", ("channel", "third")),), seed=0)
    with pytest.raises(SnowError, match=r"study.db cannot be used: .*") as caught:
        other.begin({"pooling.slots": "third"}, 0)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_text("junk, and more of it than a header " * 10)
    with pytest.raises(SnowError, match=r"junk.db cannot be used: file is not a database"):
        study(tmp_path / "junk.db")
    (tmp_path / "file").touch()
    with pytest.raises(SnowError, match="cannot be used"):
        study(tmp_path / "file" / "study.db")


def test_a_full_disk_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    each = study(path)
    trial = each.begin(SETTING, 0)

    def fail(*_: object) -> None:
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(each._study, "tell", fail)
    with pytest.raises(SnowError, match=r"study.db cannot be used: database or disk is full$"):
        each.finish(trial, {"top1": 0.5})


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SnowError, match=r"pip install 'snow-cnn\[sweep\]'"):
        study(None)
