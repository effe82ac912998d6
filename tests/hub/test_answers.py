"""What the tasks of a hub answer, all in one pass, and after another process has changed them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_hub import CLASSES, task
from torch import Tensor

from snow.data import decode, eval_transform
from snow.errors import SnowError
from snow.hub import Hub
from snow.inference import SOURCE_HEAD, ClassPrediction
from snow.source import Source


def test_a_copied_folder_is_a_task_of_its_own(hub: Hub, resnet: Source, images: Tensor) -> None:
    hub.add(task(resnet, "a"))
    shutil.copytree(hub.path / "tasks/a", hub.path / "tasks/b")
    logits = hub.logits(images)
    assert list(logits) == ["a", "b"]
    assert torch.equal(logits["a"], logits["b"])
    assert [answer["b"].task for answer in hub.predict(images)] == ["b"] * 3
    assert hub.task("b").name == "b"


def test_one_pass_answers_all_tasks(hub: Hub, resnet: Source, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        hub.add(task(resnet, name, method="snow"))
    passes: list[int] = []
    monkeypatch.setattr(resnet, "_forward_pre_hooks", {0: lambda *_: passes.append(1)})
    hub.logits(images)
    assert passes == [1]


def test_predictions_are_sorted_probabilities(hub: Hub, resnet: Source, images: Tensor) -> None:
    hub.add(task(resnet, "a"))
    for answer, logits in zip(hub.predict(images), hub.logits(images)["a"], strict=True):
        one = answer["a"]
        assert one.task == "a"
        assert sorted(one.classes) == ["a", "b", "c"]
        assert list(one.probabilities) == sorted(one.probabilities, reverse=True)
        assert sum(one.probabilities) == pytest.approx(1)
        assert one.classes[0] == CLASSES[logits.argmax()]
        assert one.probabilities[0] == pytest.approx(logits.softmax(0).max().item())


def test_files_are_predicted_as_their_pixels(
    hub: Hub, resnet: Source, write_folder: Callable[..., Path], tmp_path: Path
) -> None:
    hub.add(task(resnet, "a", method="snow"))
    folder = write_folder(tmp_path / "pictures", train=1, test=0, size=80)
    files = [folder / name / f"{index}.png" for index, name in enumerate(("blue", "green", "red"))]
    pixels = torch.stack([eval_transform(resnet.preprocessing)(decode(path)) for path in files])
    assert hub.predict(files) == hub.predict(pixels)
    assert [answer["a"].classes for answer in hub.predict([str(files[1])])] == [hub.predict(pixels)[1]["a"].classes]
    with pytest.raises(SnowError, match="has no task 'never'"):
        hub.predict(files, ["a", "never"])
    with pytest.raises(SnowError, match=r"nowhere.png"):
        hub.predict([files[0], tmp_path / "nowhere.png"])


def test_the_source_s_own_head_answers_beside_tasks(hub: Hub, resnet: Source, images: Tensor) -> None:
    hub.add(task(resnet, "a"))
    logits = hub.logits(images, ["a", SOURCE_HEAD])
    assert torch.equal(logits[SOURCE_HEAD], resnet(images).logits)
    best = hub.predict(images, [SOURCE_HEAD])[0][SOURCE_HEAD]
    assert best.classes[0] == str(resnet(images).logits[0].argmax().item())
    assert SOURCE_HEAD not in hub.logits(images)


def test_what_another_process_has_done_is_seen_after_a_refresh(hub: Hub, resnet: Source, images: Tensor) -> None:
    for name in ("a", "b", "c", "d"):
        hub.add(task(resnet, name, 1))
    before = hub.logits(images)
    assert hub.refresh() == []
    other, new = Hub(hub.path, resnet), task(resnet, "a", 2)
    other.add(new, replace=True)
    other.remove("b")
    other.add(task(resnet, "e", 1))
    weights = hub.folder("c") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert torch.equal(hub.logits(images, ["a"])["a"], before["a"])
    assert hub.refresh() == ["a", "b", "c"]
    assert hub.refresh() == []
    after = hub.logits(images)
    assert set(after) == {"a", "d", "e"}
    assert torch.equal(after["a"], new.method(resnet(images)))
    assert torch.equal(after["d"], before["d"])
    assert set(hub.broken()) == {"c"}


def test_a_damaged_task_that_is_mended_answers_after_a_refresh(hub: Hub, resnet: Source, images: Tensor) -> None:
    hub.add(task(resnet, "a", 1))
    config = hub.folder("a") / "config.json"
    content = config.read_bytes()
    config.write_bytes(b"{")
    hub = Hub(hub.path, resnet)
    assert hub.logits(images) == {}
    config.write_bytes(content)
    assert hub.logits(images) == {}
    assert hub.refresh() == ["a"]
    assert set(hub.logits(images)) == {"a"}


def test_a_hub_keeps_its_place_when_the_process_goes_elsewhere(
    hub: Hub, resnet: Source, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(task(resnet, "a"))
    monkeypatch.chdir(hub.path.parent)
    opened = Hub(hub.path.name, resnet)
    monkeypatch.chdir("/")
    assert list(opened.predict(images)[0]) == ["a"]
    assert opened.folder("a") == hub.folder("a")


def test_a_hub_whose_folder_has_gone_is_an_error_and_no_empty_answer(hub: Hub, images: Tensor) -> None:
    assert hub.predict(images) == [{}] * 3
    shutil.rmtree(hub.path)
    with pytest.raises(SnowError, match="hub .* is not there any more"):
        hub.predict(images)


def test_probabilities_of_a_task_are_an_array_in_the_order_of_its_classes(
    hub: Hub, resnet: Source, images: Tensor
) -> None:
    hub.add(task(resnet, "a", method="snow"))
    for name in ("a", SOURCE_HEAD):
        probabilities = hub.predict_proba(images, name)
        classes = hub.classes(name)
        assert probabilities.shape == (3, len(classes))
        for row, answer in zip(probabilities.tolist(), hub.predict(images, [name]), strict=True):
            prediction = answer[name]
            assert isinstance(prediction, ClassPrediction)
            assert dict(zip(prediction.classes, prediction.probabilities, strict=True)) == pytest.approx(
                dict(zip(classes, row, strict=True))
            )
    assert hub.predict_proba([], "a").shape == (0, len(CLASSES))
    with pytest.raises(SnowError, match="has no task 'b'"):
        hub.predict_proba(images, "b")


def test_no_picture_has_no_answer_and_is_no_error(hub: Hub, resnet: Source) -> None:
    hub.add(task(resnet, "a"))
    assert hub.predict([]) == []


def test_a_picture_in_any_form_has_the_same_answer(hub: Hub, resnet: Source, images: Tensor, tmp_path: Path) -> None:
    hub.add(task(resnet, "a"))
    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    picture.save(tmp_path / "a.png")
    (expected,) = hub.predict([tmp_path / "a.png"])
    for form in (str(tmp_path / "a.png"), picture, np.asarray(picture), (tmp_path / "a.png").read_bytes(), images[0]):
        assert hub.predict(form) == hub.predict([form]) == [expected]
    assert hub.predict(images.float()) == hub.predict(images)
