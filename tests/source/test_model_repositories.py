"""Models of transformers in repositories and hubs: kept, named with licence and revision, refused in one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from source.tiny_transformers import OWN_SIZES, TOKENS, draw_pictures, save_model, write_config

import snow
from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.hub.card import task_card
from snow.hub.task_files import read_config
from snow.methods import METHODS
from snow.source import Source
from snow.source.fingerprint import source_fingerprint
from snow.source.licence import origin_of
from snow.source.model_folder import ModelFolder

pytest.importorskip("transformers")


def test_a_hub_keeps_all_of_it(
    model_name: str,
    opened_model: Callable[[str], Source],
    saved_model: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It opens without the folder and the network, and answers the same."""
    source = opened_model(model_name)
    hub = Hub.create(tmp_path / "hub", source)
    torch.manual_seed(0)
    method = METHODS["snow"].build(source, 3, {"start": "zero"}).export_form()
    hub.add(Artifact("one", ("a", "b", "c"), method, source.description()))
    expected = hub.logits(draw_pictures(source))
    folder = saved_model(model_name)[0]
    folder.rename(tmp_path / "elsewhere")
    try:
        again = Hub.open(tmp_path / "hub")
        assert again.source.description() == source.description()
        assert again.source.taps == source.taps
        assert torch.equal(again.logits(draw_pictures(source))["one"], expected["one"])
        assert Hub.create(tmp_path / "hub", again.source).names() == ["one"]
        moved = Source.open(f"hf:{tmp_path / 'elsewhere'}", image_size=OWN_SIZES.get(model_name))
        assert moved.fingerprint == source.fingerprint  # it does not matter where a model lies
    finally:
        (tmp_path / "elsewhere").rename(folder)
    described = json.loads((tmp_path / "hub" / "source.json").read_text())
    assert described["origin"] == {"licence": "mit", "model card": str(folder / "README.md")}
    assert "auto_map" not in described["transformers"]["config"]


def test_cards_name_the_licence_and_how_to_open_it(
    opened_model: Callable[[str], Source], model_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not tell where on this machine the model lies."""
    source = opened_model("vit")
    hub = Hub.create(tmp_path / "hub", source)
    hub.add(Artifact("one", ("a", "b"), METHODS["fo"].build(source, 2).export_form(), source.description()))
    again = Hub.open(hub.path)
    card = (again.save_pretrained(tmp_path / "shared") / "README.md").read_text("utf-8")
    assert "| licence | mit |" in card
    assert "pip install 'snow-cnn[transformers]'" in card
    assert Hub.open(tmp_path / "shared").source.fingerprint == source.fingerprint
    of_task = task_card(read_config(hub.folder("one")), {}, "owner/name")
    call = re.search(r"snow\.Source\.\w+\(.*\)(?=\))", of_task)
    assert call is not None
    assert "vit/README.md" in card
    assert str(model_place) not in card + of_task
    monkeypatch.chdir(model_place)
    assert eval(call[0], {"snow": snow}).fingerprint == source.fingerprint


@pytest.mark.parametrize("card", ["", "no front matter", "---\nlicense: [\n---\n", "---\n- a list\n---\n"])
def test_a_card_without_a_licence_says_nothing(card: str, tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", {"model_type": "vit"})
    (folder / "README.md").write_text(card)
    assert "licence" not in ModelFolder(str(folder)).origin()


def test_a_licence_with_a_name_of_its_own(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", {"model_type": "vit"})
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: dinov3-license\n---\n")
    assert ModelFolder(str(folder)).origin()["licence"] == "dinov3-license"


def test_a_damaged_hub_is_one_line(opened_model: Callable[[str], Source], tmp_path: Path) -> None:
    hub = Hub.create(tmp_path / "hub", opened_model("vit"))
    text = (hub.path / "source.json").read_text()
    small = {"model_type": "vit", **TOKENS, "intermediate_size": 8, "image_size": 64}
    for junk in (None, 3, {}, {"config": 3}, {"config": {"model_type": "magic"}}, {"config": small}):
        described = {**json.loads(text), "transformers": junk}
        if isinstance(junk, dict):
            described["fingerprint"] = refingerprinted(hub.path, described)
        (hub.path / "source.json").write_text(json.dumps(described))
        with pytest.raises(SnowError) as caught:
            Hub.open(hub.path)
        assert "\n" not in str(caught.value)
    described = json.loads(text)
    described["preprocessing"]["mean"] = "grey"
    described["fingerprint"] = refingerprinted(hub.path, described)
    (hub.path / "source.json").write_text(json.dumps(described))
    with pytest.raises(SnowError, match="its preprocessing cannot be read"):
        Hub.open(hub.path)
    (hub.path / "source.json").write_text(text)
    (hub.path / "source.safetensors").unlink()
    with pytest.raises(SnowError, match=r"damaged: .*source.safetensors is missing"):
        Hub.open(hub.path)


def refingerprinted(hub: Path, described: dict[str, Any]) -> str:
    """The fingerprint that a description would have that somebody wrote on purpose."""
    tensors = load_file(hub / "source.safetensors")
    return source_fingerprint("", described["transformers"], described["preprocessing"], tensors)


def test_another_version_of_transformers_is_named(opened_model: Callable[[str], Source], tmp_path: Path) -> None:
    hub = Hub.create(tmp_path / "hub", opened_model("resnet"))
    described = json.loads((hub.path / "source.json").read_text())
    described["transformers"]["version"] = "4.99.0"
    (hub.path / "source.json").write_text(json.dumps(described))
    assert Hub.open(hub.path).source.transformers == described["transformers"]
    described["transformers"]["config"]["embedding_size"] = 8
    (hub.path / "source.json").write_text(json.dumps(described))
    with pytest.raises(SnowError, match="has changed: fingerprint"):
        Hub.open(hub.path)
    described["fingerprint"] = refingerprinted(hub.path, described)
    (hub.path / "source.json").write_text(json.dumps(described))
    with pytest.raises(SnowError, match=r"does not fit .*saved with transformers 4.99.0, not .* install that version"):
        Hub.open(hub.path)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the repository tiny/vit in an empty cache of the Hugging Face hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path / "models--tiny--vit"


def test_a_repository_that_was_downloaded_needs_no_network(
    saved_model: Callable[..., Any], opened_model: Callable[[str], Source], repository: Path
) -> None:
    from huggingface_hub import constants

    shutil.copytree(saved_model("vit")[0], repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    source = Source.open("hf:tiny/vit")
    assert (source.architecture, source.weights) == ("hf:tiny/vit", "pretrained")
    assert source.fingerprint == opened_model("vit").fingerprint
    origin = origin_of(source.cnn, source.architecture, source.weights)
    assert origin == {"licence": "mit", "model card": f"{constants.ENDPOINT}/tiny/vit", "revision": "0" * 40}


def test_a_revision_is_opened_and_kept(
    saved_model: Callable[..., Any], opened_model: Callable[[str], Source], repository: Path, tmp_path: Path
) -> None:
    commits = {"main": "0" * 40, "v1": "1" * 40}
    (repository / "refs").mkdir(parents=True)
    for name, commit in commits.items():
        (repository / "refs" / name).write_text(commit)
    shutil.copytree(saved_model("vit")[0], repository / "snapshots" / commits["main"])
    save_model("vit", repository / "snapshots" / commits["v1"], num_labels=7)
    assert Source.open("hf:tiny/vit").fingerprint == opened_model("vit").fingerprint
    for revision in ("v1", commits["v1"]):
        source = Source.open(f"hf:tiny/vit@{revision}")
        assert (source.architecture, source.num_classes) == (f"hf:tiny/vit@{revision}", 7)
        hub = Hub.create(tmp_path / f"hub-{revision}", source)
        described = json.loads((hub.path / "source.json").read_text())
        assert described["origin"]["revision"] == commits["v1"]
        assert Hub.open(hub.path).source.architecture == source.architecture
    assert Source.open("hf:tiny/vit@main").fingerprint == opened_model("vit").fingerprint


@pytest.mark.parametrize("spec", ["hf:/nowhere/at/all", "hf:", "hf:a/b/c", "hf:../vit", "hf:tiny/vit@"])
def test_an_unknown_folder_is_one_line(spec: str) -> None:
    with pytest.raises(SnowError, match="there is no folder"):
        Source.open(spec)


def test_an_unknown_repository_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot be reached is named; one that does not know the name says so."""
    import huggingface_hub
    from huggingface_hub import errors

    from snow.source import model_folder

    monkeypatch.setattr("snow.source.weights.socket.create_connection", _unreachable)
    with pytest.raises(SnowError, match="hf:nobody/nothing is no folder and not cached, and .* cannot be reached"):
        Source.open("hf:nobody/nothing")

    def unknown(*_args: object, revision: str | None, **_options: object) -> str:
        response = cast("Any", SimpleNamespace(headers={}, request=None))
        kind = errors.RepositoryNotFoundError if revision is None else errors.RevisionNotFoundError
        raise kind("404\nsee the documentation", response=response)

    monkeypatch.setattr(model_folder, "require_reachable", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unknown)
    with pytest.raises(SnowError, match="there is no folder 'nobody/nothing', and no such repository"):
        Source.open("hf:nobody/nothing")
    with pytest.raises(SnowError, match="hf:nobody/nothing has no revision 'v9'"):
        Source.open("hf:nobody/nothing@v9")


def _unreachable(*_args: object, **_options: object) -> None:
    raise OSError("no network")


def test_code_of_a_repository_is_never_run(saved_model: Callable[..., Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved_model("vit")[0], tmp_path / "vit"))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForImageClassification": "evil.Evil", "AutoConfig": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit(99)")
    assert type(Source.open(f"hf:{folder}").cnn.model).__name__ == "ViTForImageClassification"
