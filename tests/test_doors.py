"""What a user of timm and PEFT tries first works, and the page of the API lists exactly what is public."""

from __future__ import annotations

import errno
import inspect
import pickle
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

import snow
from snow.errors import file_error
from snow.methods.lora import LoraConfig
from snow.methods.model_patch import ModelPatchConfig
from snow.training.hub_run import run_folder

ROOT = Path(__file__).parents[1]
RECIPE = snow.Recipe(epochs=1, batch_size=8, lr=0.01, augment="none", precision="32")
RUNTIME = snow.Runtime(workers=0)


@pytest.fixture
def hub(resnet: snow.Source, tmp_path: Path) -> snow.Hub:
    return snow.Hub.create(tmp_path / "hub", resnet)


@pytest.fixture
def dataset(write_folder: Callable[..., Path], tmp_path: Path) -> snow.Dataset:
    return snow.open_dataset(write_folder(tmp_path / "pictures"), task="colours")


def test_the_page_of_the_api_lists_what_is_public() -> None:
    listed = re.findall(r"^::: (\S+)\.(\w+)$", (ROOT / "docs" / "api.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(name for _, name in listed) == sorted(snow.__all__)
    for module, name in listed:
        assert getattr(import_module(module), name) is getattr(snow, name)


def test_what_public_functions_name_in_their_docstrings_is_public() -> None:
    """Every kind of error that is raised to a user can be imported from `snow`."""
    for function in (snow.train, snow.fit, snow.evaluate, snow.export, snow.open_dataset):
        raised = re.findall(r"\b([A-Z]\w+(?:Error|rupted)):", inspect.getdoc(function) or "")
        assert set(raised) <= set(snow.__all__), function
    assert {"Interrupted", "Listener", "export", "Delta", "Subscription", "Runtime"} <= set(snow.__all__)


def test_a_method_takes_its_config_class(hub: snow.Hub, dataset: snow.Dataset) -> None:
    config = snow.SnowConfig(keep=0.25, pooling=snow.PoolingConfig(sigma2=0.5))
    [task] = snow.train(hub, dataset, RECIPE, config=config, runtime=RUNTIME)
    options = task.method.config["options"]
    assert (options["keep"], options["pooling"]["sigma2"]) == (0.25, 0.5)
    by_name = {"keep": 0.25, "pooling": {"sigma2": 0.5}}
    [again] = snow.train(hub, dataset, RECIPE, config=by_name, runtime=RUNTIME, replace=True)
    assert again.method.config == task.method.config
    assert all(torch.equal(value, again.method.state_dict()[name]) for name, value in task.method.state_dict().items())


def test_each_method_has_a_config_class_of_its_own(hub: snow.Hub, dataset: snow.Dataset) -> None:
    config = ModelPatchConfig(patch="scale_bias")
    [task] = snow.train(hub, dataset, RECIPE, method="mp", config=config, runtime=RUNTIME)
    assert task.method.config["patch"] == "scale_bias"
    classes = [method.config_class for method in snow.METHODS.values() if method.config_class is not None]
    assert len(set(classes)) == len(classes) == len(snow.METHODS) - 1, "only the linear probe has no options"


@pytest.mark.parametrize(
    ("method", "config", "message"),
    [
        ("snow", LoraConfig(), "method snow has SnowConfig: its config cannot be LoraConfig"),
        ("mp", snow.SnowConfig(), "method mp has ModelPatchConfig: its config cannot be SnowConfig"),
        ("fo", snow.SnowConfig(), "method fo has no config class: its config cannot be SnowConfig"),
        ("snow", snow.Recipe(), "its config cannot be Recipe"),
    ],
)
def test_the_config_of_another_method_is_refused_in_one_line(
    hub: snow.Hub, dataset: snow.Dataset, method: str, config: object, message: str
) -> None:
    with pytest.raises(snow.MismatchError, match=message) as caught:
        snow.train(hub, dataset, RECIPE, method=method, config=config, runtime=RUNTIME)
    assert "\n" not in str(caught.value)
    assert not run_folder(hub.path, ["colours"]).exists()


def test_a_source_is_pretrained_unless_that_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def built(name: str, pretrained: bool, weights: object, image_size: object) -> None:
        asked.append(pretrained)
        raise snow.SnowError("far enough")

    for library in ("timm", "torchvision"):
        monkeypatch.setattr(f"snow.source.architectures.from_{library}", built)
    openings: list[Callable[..., snow.Source]] = [
        lambda **options: snow.Source.from_timm("resnet18", **options),
        lambda **options: snow.Source.from_torchvision("resnet18", **options),
        lambda **options: snow.Source.open("resnet18", **options),
        lambda **options: snow.Source.open("torchvision/resnet18", **options),
    ]
    for opening in openings:
        for options in ({}, {"pretrained": False}, {"weights": "file.pth"}):
            with pytest.raises(snow.SnowError, match="far enough"):
                opening(**options)
    assert asked == [True, False, False] * 4


class Stop(snow.Listener):
    """Stops a run at its first step."""

    def __init__(self) -> None:
        self.info: snow.RunInfo | None = None

    def on_start(self, run: snow.RunInfo) -> None:
        self.info = run

    def on_step(self, report: snow.StepReport) -> None:
        raise snow.Interrupted("enough")


def test_a_listener_and_what_stops_a_run_are_public(hub: snow.Hub, dataset: snow.Dataset) -> None:
    listener = Stop()
    with pytest.raises(snow.Interrupted, match="enough"):
        snow.train(hub, dataset, RECIPE, runtime=RUNTIME, method="fo", listeners=[listener])
    assert listener.info is not None
    assert listener.info.learners == ("colours",)


def test_errors_have_kinds(hub: snow.Hub, dataset: snow.Dataset, make_source: Callable[..., snow.Source]) -> None:
    with pytest.raises(snow.NotFoundError, match="no task 'absent'"):
        hub.task("absent")
    with pytest.raises(snow.NotFoundError, match="is not a hub"):
        snow.Hub.open(hub.path / "nothing")
    with pytest.raises(snow.NotFoundError, match="no method 'magic'"):
        snow.train(hub, dataset, RECIPE, method="magic")
    with pytest.raises(snow.MismatchError, match="has another source"):
        snow.Hub.create(hub.path, make_source(seed=3))
    snow.train(hub, dataset, RECIPE, method="fo", runtime=RUNTIME)
    with pytest.raises(snow.MismatchError, match="has a task 'colours' already"):
        snow.train(hub, dataset, RECIPE, method="fo")
    (hub.folder("colours") / "config.json").write_text("[]")
    with pytest.raises(snow.DamagedError, match="config.json is not a JSON object"):
        snow.Artifact.load(hub.folder("colours"), hub.source)
    cached = snow.Runtime(workers=0, cache="1KB")
    with pytest.raises(snow.NoSpaceError, match="more than the 1 KB of the cache"):
        snow.train(hub, dataset, RECIPE, runtime=cached, replace=True)


def test_the_kind_of_a_file_error_is_that_of_its_cause() -> None:
    assert type(file_error("x", FileNotFoundError())) is snow.NotFoundError
    assert type(file_error("x", OSError(errno.ENOSPC, "full"))) is snow.NoSpaceError
    assert type(file_error("x", PermissionError(errno.EACCES, "no"))) is snow.SnowError


@pytest.mark.parametrize("name", [name for name in snow.__all__ if name.endswith(("Error", "rupted"))])
def test_errors_survive_the_way_to_another_process(name: str) -> None:
    kind = getattr(snow, name)
    error = kind("message", "learner") if name == "DivergedError" else kind("message")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (kind, "message")
