"""Tasks that others wrote: what does not fit is named before anything is built, and the others answer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_hub import task
from torch import Tensor

from snow.errors import SnowError, printable
from snow.hub import Artifact, Hub
from snow.hub.blueprint import Blueprints
from snow.hub.card import task_card
from snow.hub.listing import summaries
from snow.inference import ClassPrediction
from snow.methods import METHODS
from snow.source import Source

Change = Callable[[Path], None]


def change_config(change: Callable[[Any], None]) -> Change:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        change(config)
        (folder / "config.json").write_text(json.dumps(config), "utf-8")

    return apply


def change_tensor(name: str, change: Callable[[Tensor], Tensor]) -> Change:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors[name] = change(tensors[name]).contiguous()
        save_file(tensors, folder / "model.safetensors")

    return apply


def _level(config: Any) -> Any:
    return config["config"]["plan"]["levels"][0]


CHANGES: dict[str, tuple[Change, str]] = {
    "index too large": (
        change_tensor("delta.subscriptions.0.index", lambda index: index + 2**16),
        "outside of its",
    ),
    "negative index": (change_tensor("delta.subscriptions.0.index", lambda index: index - 1000), "outside of its"),
    "NaN": (change_tensor("delta.classifier.weight", lambda value: value * float("nan")), "NaN or infinity"),
    "infinity": (change_tensor("delta.classifier.bias", lambda value: value + float("inf")), "NaN or infinity"),
    "another type": (change_tensor("delta.classifier.bias", Tensor.double), "config.json describes float32"),
    "another shape": (change_tensor("delta.classifier.bias", lambda value: value[:1]), "config.json describes"),
    "no such map": (change_config(lambda config: _level(config).update(tap="layer9.0")), "has no map 'layer9.0'"),
    "map of another size": (change_config(lambda config: _level(config).update(channels=7)), "channels, not 7"),
    "absurd size": (change_config(lambda config: config["config"]["readout"].update(inputs=10**8)), "describes"),
    "impossible size": (change_config(lambda config: config["config"]["plan"].update(features=10**18)), "too large"),
    "too many levels": (
        change_config(lambda config: config["config"]["plan"].update(levels=10**4 * [_level(config)])),
        "a network of 10000 parts",
    ),
    "lone surrogate": (change_config(lambda config: config.update(classes=["\ud800", "b", "c"])), "not text in UTF-8"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("recorded", [False, True])
def test_what_does_not_fit_is_named_and_the_others_answer(
    hub: Hub, resnet: Source, images: Tensor, change: str, recorded: bool
) -> None:
    for name in ("good", "bad"):
        hub.add(task(resnet, name, method="snow"))
    if not recorded:
        (hub.folder("bad") / "fingerprint.json").unlink()
    apply, told = CHANGES[change]
    apply(hub.folder("bad"))
    opened = Hub.open(hub.path)
    assert list(opened.broken()) == ["bad"]
    assert told in opened.broken()["bad"] or (recorded and "has changed since" in opened.broken()["bad"])
    for predictions in opened.predict(images):
        assert [name for name, entry in predictions.items() if isinstance(entry, ClassPrediction)] == ["good"]
    verified = opened.verify()
    assert {name: bool(entry.differences) for name, entry in verified.items()} == {"good": False, "bad": True}
    with pytest.raises(SnowError):
        hub.copy(hub.folder("bad"), "copied")
    assert "copied" not in hub.names()


def test_sizes_are_compared_before_anything_is_allocated(
    hub: Hub, resnet: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub.add(task(resnet, "a", method="snow"))
    CHANGES["absurd size"][0](folder)
    sizes: list[int] = []
    real = torch.arange

    def arange(*args: Any, **options: Any) -> Tensor:
        value = real(*args, **options)
        sizes.append(0 if value.is_meta else value.numel())
        return value

    monkeypatch.setattr(torch, "arange", arange)
    with pytest.raises(SnowError, match="describes"):
        Artifact.load(folder, resnet)
    assert max(sizes, default=0) < 10**6


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].extra is None])
def test_a_task_filled_into_a_blueprint_answers_as_one_that_was_built(
    name: str, hub: Hub, resnet: Source, images: Tensor
) -> None:
    saved = task(resnet, "a", method=name)
    folder = hub.add(saved)
    blueprints = Blueprints(resnet)
    first, second = (Artifact.load(folder, resnet, blueprints=blueprints).method for _ in range(2))
    features = resnet(images)
    assert torch.equal(first(features), saved.method.eval()(features))
    with torch.no_grad():
        for value in second.parameters():
            value.zero_()
    assert torch.equal(first(features), saved.method(features)), "two tasks share no values"
    assert first.learned_parameters == saved.method.learned_parameters
    assert not any(value.is_meta for value in first.state_dict().values())


def test_unknown_files_and_links_are_not_copied(hub: Hub, resnet: Source, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    folder = task(resnet, "a").save(tmp_path / "a")
    (folder / "notes.json").symlink_to(secret)
    (folder / "more.safetensors").write_bytes(b"")
    hub.copy(folder)
    assert sorted(path.name for path in hub.folder("a").iterdir()) == [
        "config.json",
        "fingerprint.json",
        "metrics.json",
        "model.safetensors",
    ]
    (folder / "choice.safetensors").symlink_to(secret)
    with pytest.raises(SnowError, match=r"choice.safetensors is not a regular file"):
        hub.copy(folder, "b")
    (folder / "choice.safetensors").unlink()
    os.mkfifo(folder / "choice.safetensors")
    with pytest.raises(SnowError, match=r"choice.safetensors is not a regular file"):
        hub.copy(folder, "b")


def test_a_list_leaves_out_what_has_changed(hub: Hub, resnet: Source) -> None:
    for name in ("a", "b", "c", "d"):
        hub.add(task(resnet, name))
    (hub.folder("b") / "metrics.json").write_text('{"test": {"top1": 0.9}}')
    (hub.folder("c") / "config.json").write_text("{")
    for damaged in ('{"test": {"top1": "x"}}', '{"test": 3}', '{"test": {"top1": 1e400}}'):
        (hub.folder("d") / "metrics.json").write_text(damaged)
        (hub.folder("d") / "fingerprint.json").unlink(missing_ok=True)
        reasons: dict[str, str] = {}
        entries = summaries(hub.path, lambda name, error: reasons.update({name: str(error)}))  # noqa: B023
        assert [(entry["task"], entry["top1"]) for entry in entries] == [("a", None), ("d", None)]
        assert reasons.keys() == {"b", "c"}


@pytest.mark.parametrize("place", range(0, 4000, 97))
def test_a_flipped_bit_of_a_record_is_seen(place: int, hub: Hub, resnet: Source) -> None:
    hub.add(task(resnet, "a"))
    file = hub.folder("a") / "fingerprint.json"
    content = bytearray(file.read_bytes())
    before = json.loads(content)
    content[place % len(content)] ^= 1
    file.write_bytes(content)
    try:
        is_harmless = json.loads(content) == before
    except ValueError:
        is_harmless = False
    assert bool(Hub.open(hub.path).broken()) != is_harmless


def test_others_write_no_markup_into_a_card() -> None:
    hostile = "a](https://x.y) <script>`x`\n# www.z.de @me \x1b[2J$1$"
    source = {"architecture": 'timm/x", evil="```', "weights": "pretrained", "fingerprint": "f", "preprocessing": 3}
    config = {"task": "t", "classes": [hostile], "method": "fo", "source": source, "training": {"recipe": hostile}}
    card = task_card(config, {"test": {"top1": "x", "top5": None}, "learned_parameters": "y"}, "me/t")
    text = card.split("---\n", 2)[2]
    [line] = [line for line in text.splitlines() if line.startswith("1 classes: ")]
    assert not re.search(r"(?<!\\)[\[\]<>`*_|#~$@\x1b]", line)
    assert not re.search(r"://|www\.", line.replace("\\://", "").replace("www\\.", ""))
    assert text.count("```") == 4
    code = text.split("```python\n")[1].split("```")[0]
    compile(code, "README.md", "exec")


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("\x1b]0;t\x07 a\nb\u202e\x9b \ud800 äß猫 👩‍🔬") == (
        "\\x1b]0;t\\x07 a\\nb\\u202e\\x9b \\ud800 äß猫 👩‍🔬"
    )
    assert str(SnowError("task \x1b[2J\nfailed")) == "task \\x1b[2J failed"
