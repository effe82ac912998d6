"""Tasks that cannot answer, each for another reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_hub import task
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Hub
from snow.inference import ClassPrediction, Failure
from snow.source import Source


def _truncated(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])


def _newer(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), "format": 99}))


def _other_source(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["source"]["fingerprint"] = "sha256:0"
    (folder / "config.json").write_text(json.dumps(config))


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _pickled(folder: Path) -> None:
    torch.save({"weight": torch.ones(3)}, folder / "model.safetensors")


def _linked(folder: Path) -> None:
    folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


def _misnamed(folder: Path) -> None:
    folder.rename(folder.parent / "ä b")


def _nested(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_truncated, "task b is damaged"),
        (_newer, "newer than this version reads"),
        (_other_source, "trained on another source"),
        (_emptied, "config.json cannot be read"),
        (_pickled, "task b is damaged"),
        (_linked, "is a link"),
        (_misnamed, "cannot name a task"),
        (_nested, "config.json cannot be read"),
    ],
)
def test_a_task_that_cannot_answer_is_named_and_the_others_answer(
    hub: Hub,
    resnet: Source,
    images: Tensor,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    told: str,
) -> None:
    for name in ("a", "b", "c"):
        hub.add(task(resnet, name))
    expected = hub.logits(images, ["a", "c"])
    damage(hub.folder("b"))
    again = Hub.open(hub.path, engine="eager")
    [broken] = set(again.names()) - {"a", "c"}
    assert {name: told in why for name, why in again.broken().items()} == {broken: True}
    logits = again.logits(images)
    assert list(logits) == sorted(expected)
    assert all(torch.equal(logits[name], expected[name]) for name in expected)
    for answers in [*again.predict(images), *again.predict(images, ["a", *([broken] if broken == "b" else []), "c"])]:
        assert [name for name, answer in answers.items() if isinstance(answer, ClassPrediction)] == ["a", "c"]
        failures = [answer for answer in answers.values() if isinstance(answer, Failure)]
        assert [failure.task for failure in failures] == [broken] * (broken in answers)
        assert all(told in failure.error for failure in failures)
    assert broken in again.predict(images)[0]
    [record] = caplog.records
    assert record.getMessage().startswith(f"task {broken} of hub {hub.path} is left out: ")
    assert told in record.getMessage()
    with pytest.raises(SnowError, match=told):
        again.logits(images, ["a", broken])
    if broken == "b":
        again.add(task(resnet, "b", 1), replace=True)
        assert list(again.logits(images)) == ["a", "b", "c"]
        assert again.broken() == {}
