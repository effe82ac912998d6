"""Whether a task is what it was when it was added, and if not, where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.hub.task_files import RECORD_FILE
from snow.hub.task_record import write_values
from snow.hub.verification import ReferencePictures, Verification
from snow.methods import METHODS
from snow.source import Source
from snow.store import write_json

CLASSES = ("a", "b", "c")


@pytest.fixture
def hub(resnet: Source, tmp_path: Path) -> Hub:
    hub = Hub(Hub.create(tmp_path / "hub", resnet).path, resnet, engine="eager")
    for name, method in (("delta", "snow"), ("linear", "fo")):
        hub.add(task(resnet, name, method))
    return hub


def task(source: Source, name: str, method: str = "snow") -> Artifact:
    learned = METHODS[method].build(source, len(CLASSES)).export_form()
    with torch.no_grad():
        for value in learned.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return Artifact(name, CLASSES, learned, source.description(), {"test": {"top1": 0.5}})


def found(hub: Hub, name: str = "delta") -> tuple[bool, list[tuple[str | None, str | None]]]:
    """Whether the other task is as it was, and where this one differs."""
    verifications = Hub.open(hub.path).verify()
    other = verifications["linear"]
    return not other.differences, [(one.file, one.tensor) for one in verifications[name].differences]


def change_tensor(folder: Path) -> str:
    """Adds 1 to one number of a delta; returns the name of its tensor."""
    tensors = load_file(folder / "model.safetensors")
    name = "delta.classifier.weight"
    tensors[name].view(-1)[0] += 1
    save_file(tensors, folder / "model.safetensors")
    return name


def test_pictures_are_the_same_everywhere_and_of_all_kinds() -> None:
    pictures = ReferencePictures.draw(64)
    assert (pictures.shape, pictures.dtype) == ((4, 3, 64, 64), torch.uint8)
    assert pictures.long().sum((1, 2, 3)).tolist() == [1536129, 1474560, 1449984, 1474560]
    assert len({tuple(row) for row in pictures.flatten(2).flatten(0, 1).tolist()}) == 12
    assert ReferencePictures.draw(30).float().std((2, 3)).min() > 30


def test_nothing_differs_in_a_hub_that_was_left_alone(hub: Hub) -> None:
    for verifications in (hub.verify(), Hub.open(hub.path).verify()):
        assert verifications == {name: Verification((), True, 0.0) for name in ("delta", "linear")}


def test_the_logits_are_those_that_the_hub_gives(hub: Hub) -> None:
    recorded = json.loads((hub.folder("delta") / RECORD_FILE).read_text())["logits"]
    assert torch.equal(torch.tensor(recorded), hub.logits(ReferencePictures.draw(64), ["delta"])["delta"])


def test_a_changed_number_is_found_with_its_tensor_and_what_it_does(hub: Hub) -> None:
    name = change_tensor(hub.folder("delta"))
    assert found(hub) == (True, [("model.safetensors", name), (None, None)])
    verification = Hub.open(hub.path).verify()["delta"]
    assert verification.logits is not None
    assert verification.logits > 0.01
    assert f"differ by up to {verification.logits:.3g}" in verification.differences[1].why


def test_tensors_that_come_and_go_are_named(hub: Hub) -> None:
    file = hub.folder("delta") / "model.safetensors"
    tensors = load_file(file)
    gone = next(iter(tensors))
    save_file({**{name: value for name, value in tensors.items() if name != gone}, "new": torch.ones(1)}, file)
    assert found(hub) == (True, [("model.safetensors", gone), ("model.safetensors", "new"), (None, None)])


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_truncated_file_is_named(hub: Hub, kept: int) -> None:
    file = hub.folder("delta") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    sound, where = found(hub)
    assert sound
    assert where == [("model.safetensors", None), (None, None)]


def test_every_file_of_a_task_counts(hub: Hub) -> None:
    folder = hub.folder("delta")
    write_json(folder / "metrics.json", {"test": {"top1": 0.9}})
    save_file({"choice": torch.arange(3)}, folder / "choice.safetensors")
    (folder / "notes.txt").write_text("mine")
    assert found(hub) == (True, [("choice.safetensors", None), ("metrics.json", None)])


def test_files_that_an_artefact_may_have_later_are_recorded_too(hub: Hub, tmp_path: Path) -> None:
    folder = task(hub.source, "more").save(tmp_path / "more")
    save_file({"choice": torch.arange(3)}, folder / "choice.safetensors")
    hub.copy(folder)
    (hub.folder("more") / "choice.safetensors").unlink()
    assert found(hub, "more") == (True, [("choice.safetensors", None)])


def test_other_arithmetic_is_allowed_as_far_as_the_tolerance(hub: Hub) -> None:
    file = hub.folder("delta") / RECORD_FILE
    recorded = json.loads(file.read_text())
    largest = max(1.0, *(abs(value) for row in recorded["logits"] for value in row))
    for off, tolerance, differences in ((0.5, 1e-3, 0), (2.0, 1e-3, 1), (2.0, 3e-3, 0)):
        moved = [[value + off * 1e-3 * largest for value in row] for row in recorded["logits"]]
        write_values(file.parent, {**recorded, "logits": moved})
        assert len(hub.verify(tolerance=tolerance)["delta"].differences) == differences


@pytest.mark.parametrize("key", ["files", "tensors", "logits"])
def test_a_damaged_record_is_a_difference(hub: Hub, key: str) -> None:
    file = hub.folder("delta") / RECORD_FILE
    recorded = json.loads(file.read_text())
    for junk in ([], {}, 3, "x", None, [[1.0]], [["x"]], [None], [[1.0], [1.0, 2.0]]):
        write_json(file, {**recorded, key: junk})
        verifications = hub.verify()
        assert verifications["delta"].differences or (key, junk) == ("tensors", {})  # looked at for a changed file only
        assert not verifications["linear"].differences


def test_a_task_without_a_record_is_asked_whether_it_can_answer(hub: Hub) -> None:
    (hub.folder("delta") / RECORD_FILE).unlink()
    assert hub.verify()["delta"] == Verification((), recorded=False)
    (hub.folder("delta") / "model.safetensors").write_bytes(b"")
    [difference] = hub.verify()["delta"].differences
    assert "task delta is damaged" in difference.why
    hub.folder("delta").rename(hub.path / "elsewhere")
    hub.folder("delta").symlink_to(hub.path / "elsewhere")
    [difference] = hub.verify()["delta"].differences
    assert "is a link" in difference.why


def test_a_copied_task_is_the_same_to_the_byte(hub: Hub, resnet: Source, tmp_path: Path) -> None:
    other = Hub.create(tmp_path / "other", resnet)
    other.copy(hub.folder("delta"))
    other.copy(hub.folder("delta"), "again")
    assert other.names() == ["again", "delta"]
    for name in other.names():
        for path in other.folder(name).iterdir():
            assert path.read_bytes() == (hub.folder("delta") / path.name).read_bytes()
    assert not any(verification.differences for verification in other.verify().values())
    with pytest.raises(SnowError, match="is there already"):
        other.copy(hub.folder("linear"), "delta")
    other.copy(hub.folder("linear"), "delta", replace=True)
    assert other.task("delta").method.name == "fo"


def test_what_is_damaged_or_foreign_is_not_copied(
    hub: Hub, resnet: Source, make_source: Callable[..., Source], tmp_path: Path
) -> None:
    other = Hub.create(tmp_path / "other", resnet)
    change_tensor(hub.folder("delta"))
    with pytest.raises(SnowError, match="has changed since it was added: tensor .* differs"):
        other.copy(hub.folder("delta"))
    foreign = task(make_source(seed=1), "foreign").save(tmp_path / "foreign")
    with pytest.raises(SnowError, match="foreign was trained on another source"):
        other.copy(foreign)
    with pytest.raises(SnowError, match=r"nowhere.config.json cannot be read"):
        other.copy(tmp_path / "nowhere")
    with pytest.raises(SnowError, match="cannot name a task"):
        other.copy(hub.folder("linear"), "../linear")
    assert list((other.path / "tasks").iterdir()) == []


def test_nothing_but_a_tasks_files_is_copied(hub: Hub, resnet: Source, tmp_path: Path) -> None:
    folder = task(resnet, "a").save(tmp_path / "a")
    for name in ("weights.pt", "run.py", "README.md", ".hidden.json"):
        (folder / name).write_text("x")
    hub.copy(folder)
    files = sorted(path.name for path in hub.folder("a").iterdir())
    assert files == ["config.json", RECORD_FILE, "metrics.json", "model.safetensors"]
