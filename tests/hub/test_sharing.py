"""Tasks and hubs as folders that others can load, with a model card, and on the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import HTTPError, RevisionNotFoundError
from torch import Tensor

from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.hub.card import task_card
from snow.kinds import GradeKind, LabelKind, NumberKind, TagKind, saved_labels
from snow.methods import METHODS
from snow.source import Source

CLASSES = ("rose", "tulip_*", "ä|b")
METRICS = {"test": {"top1": 0.875, "top5": 1.0, "images": 40}, "learned_parameters": 12345}
TRAINING = {"recipe": {"epochs": 7, "lr": 0.001, "seed": 0}, "data": {"train_images": 80, "path": "/home/me/secret"}}

TASK_FILES = ["README.md", "config.json", "metrics.json", "model.safetensors"]


@pytest.fixture
def task(resnet: Source) -> Artifact:
    method = METHODS["snow"].build(resnet, 3).export_form()
    return Artifact("flowers", CLASSES, method, resnet.description(), METRICS, TRAINING)


@pytest.fixture
def hub(resnet: Source, task: Artifact, tmp_path: Path) -> Hub:
    hub = Hub.create(tmp_path / "hub", resnet)
    hub.add(task)
    hub.add(Artifact("linear", ("a", "b"), METHODS["fo"].build(resnet, 2).export_form(), resnet.description()))
    return hub


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


class Remote:
    """The Hugging Face hub, as far as it is needed: one repository, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, Any]] = []

    def __call__(self, token: str | None = None) -> Remote:
        self.calls.append(("token", token))
        return self

    def create_repo(self, name: str, private: bool | None, exist_ok: bool) -> SimpleNamespace:
        self.calls.append(("create", (name, private, exist_ok)))
        return SimpleNamespace(repo_id=name)

    def create_branch(self, name: str, branch: str, exist_ok: bool) -> None:
        self.calls.append(("branch", branch))

    def upload_folder(self, folder_path: Path, **options: Any) -> SimpleNamespace:
        self.calls.append(("upload", options))
        shutil.copytree(
            folder_path, self.folder, ignore=lambda folder, names: [name for name in names if name.startswith(".")]
        )
        return SimpleNamespace(commit_url="https://hub/commit/1")

    def snapshot_download(self, name: str, **options: Any) -> str:
        """As in the cache of the library: every file is a link out of the folder."""
        self.calls.append(("download", (name, options)))
        if options["revision"] == "nowhere":
            raise RevisionNotFoundError("no such revision\nsee there", response=_Response())
        snapshot = self.folder.parent / "snapshots" / "abc123"
        for path in self.folder.rglob("*"):
            link = snapshot / path.relative_to(self.folder)
            if path.is_file() and not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
        return str(snapshot)


class _Response(SimpleNamespace):
    headers: dict[str, str] = {}
    request = None


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    remote = Remote(tmp_path / "remote" / "repository")
    monkeypatch.setattr(huggingface_hub, "HfApi", remote)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", remote.snapshot_download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "home"))
    return remote


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_task_is_saved_with_a_card_and_read_again(task: Artifact, resnet: Source, tmp_path: Path) -> None:
    folder = task.save_pretrained(tmp_path / "flowers")
    assert files(folder) == TASK_FILES
    again = Artifact.from_pretrained(str(folder), resnet)
    assert (again.name, again.classes, again.metrics) == (task.name, task.classes, task.metrics)
    assert all(torch.equal(value, task.method.state_dict()[k]) for k, value in again.method.state_dict().items())
    (tmp_path / "empty").mkdir()
    assert files(task.save_pretrained(tmp_path / "empty")) == TASK_FILES
    with pytest.raises(SnowError, match="is there already"):
        task.save_pretrained(folder)
    assert Artifact.load(folder, resnet).name == "flowers"


def test_a_hub_is_saved_with_a_card_and_read_again(hub: Hub, images: Tensor, tmp_path: Path) -> None:
    folder = hub.save_pretrained(tmp_path / "copy")
    assert {"README.md", "source.json", "source.safetensors", "tasks/flowers/fingerprint.json"} <= set(files(folder))
    again = Hub.from_pretrained(folder)
    assert again.names() == ["flowers", "linear"]
    expected = hub.logits(images)
    assert all(torch.equal(value, expected[name]) for name, value in again.logits(images).items())
    assert not any(verdict.differences for verdict in again.verify().values())
    assert Hub.from_pretrained(folder, taps=["layer3.*"]).source.taps[0].name.startswith("layer3")


def test_a_task_that_cannot_answer_is_not_shared(hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (hub.folder("linear") / "model.safetensors").write_bytes(b"")
    folder = Hub.open(hub.path).save_pretrained(tmp_path / "copy")
    assert Hub.open(folder).names() == ["flowers"]
    assert "task linear of hub" in caplog.text


def test_the_card_of_a_task_says_what_it_is(task: Artifact, tmp_path: Path) -> None:
    card = ModelCard.load(task.save_pretrained(tmp_path / "flowers", "me/flowers") / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("snow-cnn", "image-classification")
    [result] = card.data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("flowers", "accuracy", 0.875)
    assert card.data.model_name == "flowers"
    assert "| flowers | 87.5 % | 100.0 % | 40 | 12,345 |" in card.text
    assert "rose, tulip\\_\\*, ä\\|b" in card.text
    assert "Trained on 80 images, epochs 7, lr 0.001, seed 0." in card.text
    assert task.source["fingerprint"] in card.text
    assert 'snow.Artifact.from_pretrained("me/flowers", hub.source)' in card.text
    assert "secret" not in card.text


def test_the_card_of_a_hub_says_what_is_in_it(hub: Hub, tmp_path: Path) -> None:
    card = ModelCard.load(hub.save_pretrained(tmp_path / "copy", "me/shop") / "README.md")
    assert card.data.model_name == "shop"
    assert [result.dataset_name for result in card.data.eval_results] == ["flowers"]  # the other was not measured
    assert "2 image tasks" in card.text
    assert "| linear |  |  |  |  |" in card.text
    assert "- **linear**: a, b" in card.text
    assert "timm/test\\_resnet" in card.text
    assert 'snow.Hub.from_pretrained("me/shop")' in card.text


def test_how_to_load_a_task_runs_as_the_card_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the picture, for a source that comes with the installation."""
    source = Source.embedded(64)
    method = METHODS["fo"].build(source, 2).export_form()
    folder = Artifact("ab", ("a", "b"), method, source.description()).save_pretrained(tmp_path / "ab")
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(line for line in code.splitlines() if "picture.jpg" not in line), "README.md", "exec"), {})
    assert Hub.open(tmp_path / "my-hub").names() == ["ab"]


def test_a_task_goes_up_and_comes_down(task: Artifact, resnet: Source, remote: Remote) -> None:
    url = task.push_to_hub("me/flowers", private=True, revision="v1", message="First", token="t")
    assert url == "https://hub/commit/1"
    told = dict(remote.calls)
    assert (told["token"], told["create"], told["branch"]) == ("t", ("me/flowers", True, True), "v1")
    assert told["upload"].items() >= {"repo_id": "me/flowers", "revision": "v1", "commit_message": "First"}.items()
    assert told["upload"]["delete_patterns"] == ["*.json", "*.safetensors"]
    assert files(remote.folder) == TASK_FILES
    assert 'from_pretrained("me/flowers"' in (remote.folder / "README.md").read_text()
    again = Artifact.from_pretrained("me/flowers", resnet, revision="v1", token="t")
    assert again.name == "flowers"
    name, options = dict(remote.calls)["download"]
    assert (name, options["revision"], options["token"]) == ("me/flowers", "v1", "t")
    assert not any(pattern in options["allow_patterns"] for pattern in ("*", "*.bin", "*.pt", "*.py"))


def test_a_hub_goes_up_and_comes_down_as_one_that_can_be_changed(
    hub: Hub, remote: Remote, images: Tensor, tmp_path: Path
) -> None:
    hub.push_to_hub("me/shop")
    again = Hub.from_pretrained("me/shop")
    assert again.path == tmp_path / "home" / "snow" / "me--shop" / "abc123"
    assert not any(path.is_symlink() for path in again.path.rglob("*"))
    expected = hub.logits(images)
    assert all(torch.equal(value, expected[name]) for name, value in again.logits(images).items())
    again.remove("linear")
    assert Hub.from_pretrained("me/shop").names() == ["flowers"]
    mine = Hub.from_pretrained("me/shop", tmp_path / "mine")
    assert (mine.path, mine.names()) == (tmp_path / "mine", ["flowers", "linear"])
    with pytest.raises(SnowError, match="mine is there already"):
        Hub.from_pretrained("me/shop", tmp_path / "mine")


def test_what_the_remote_side_says_is_one_line(
    task: Artifact, resnet: Source, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.push_to_hub("me/flowers")
    with pytest.raises(SnowError, match=r"me/flowers is not a folder, and cannot be downloaded .*: no such revision$"):
        Artifact.from_pretrained("me/flowers", resnet, revision="nowhere")
    for error in (HTTPError("no way"), OSError("no way\nfor you"), ValueError("no way")):

        def refuse(*_: Any, error: Exception = error, **options: Any) -> None:
            raise error

        monkeypatch.setattr(remote, "create_repo", refuse)
        with pytest.raises(SnowError, match="me/flowers cannot be pushed: no way$"):
            task.push_to_hub("me/flowers")


def test_a_name_that_is_neither_a_folder_nor_a_repository_is_one_line(resnet: Source) -> None:
    """The library itself refuses it, without asking anyone."""
    for read in (lambda name: Hub.from_pretrained(name), lambda name: Artifact.from_pretrained(name, resnet)):
        with pytest.raises(SnowError, match="nowhere/at/all is not a folder") as caught:
            read("nowhere/at/all")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (TagKind(("dented", "red")), ("Finds which of 2 tags apply", "## Tags", "2 tags: dented, red")),
        (NumberKind(5.0, 1.0, 2.0, 9.5, "mm"), ("Estimates a number", "## Range", "2.0 to 9.5 mm", "mae 0.5 mm |")),
        (GradeKind(("bad", "good")), ("Grades images on a scale of 2 grades", "## Grades", "2 grades: bad, good")),
    ],
)
def test_a_card_says_what_the_labels_are(kind: LabelKind, words: tuple[str, ...], resnet: Source) -> None:
    config = {
        "task": "wear",
        "classes": list(kind.names),
        "labels": saved_labels(kind),
        "method": "snow",
        "source": resnet.description(),
        "training": {},
    }
    text = task_card(config, {"test": {kind.figures[0].key: 0.5, "images": 7}}, "me/wear")
    for word in words:
        assert word in text
    assert f"{kind.figures[0].key.replace('_', chr(92) + '_')} 0.5" in text
