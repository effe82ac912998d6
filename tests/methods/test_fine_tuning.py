"""Fine-tuning: a copy of the source, all of which is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.methods import Method
from snow.methods.fine_tuning import FineTuning
from snow.methods.model_patch import ModelPatch
from snow.methods.source_copy import SourceCopy
from snow.source import Features, Preprocessing, Source

CLASSES = (101, 47, 40, 196, 200)


def test_five_tasks_on_a_resnet50_have_the_size_of_table_5(make_source: Callable[..., Source]) -> None:
    source = make_source("resnet50")
    learned = FineTuning.build(source, 40).learned_parameters
    assert learned == source.learned_parameters - 2049 * 1000 + 2049 * 40
    total = source.learned_parameters + sum(learned + 2049 * (count - 40) for count in CLASSES)
    assert round(total / 1e6, 1) == 144.3


def test_it_starts_as_the_source_under_an_empty_head(
    source: Source, draw: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    features = source(draw(4)[0])
    method = FineTuning.build(source, 5).eval()
    torch.testing.assert_close(method.cnn(features.images), features.final)
    assert method(features).tolist() == [[0.0] * 5] * 4


def test_everything_learns_and_is_saved_and_the_source_stays(
    source: Source,
    observe: Callable[..., Features],
    learn: Callable[..., None],
    reached_parameters: Callable[..., set[str]],
) -> None:
    method = FineTuning.build(source, 3)
    features = observe(source, method)
    source_state = {name: value.clone() for name, value in source.state_dict().items()}
    learn(method, features)
    assert all(torch.equal(value, source_state[name]) for name, value in source.state_dict().items())
    assert reached_parameters(method, features) == set(dict(method.named_parameters()))
    body = {name for name in source.cnn.state_dict() if not name.startswith(f"{source.classifier}.")}
    assert set(method.export_form().state_dict()) == {f"cnn.{name}" for name in body} | {
        "classifier.weight",
        "classifier.bias",
    }


def test_batchnorm_follows_the_pictures_of_its_task(resnet: Source, observe: Callable[..., Features]) -> None:
    method = FineTuning.build(resnet, 3)
    norm = next(module for module in method.cnn.modules() if isinstance(module, nn.BatchNorm2d))
    before, entered = norm.running_mean.clone(), list[Tensor]()
    norm.register_forward_pre_hook(lambda _module, inputs: entered.append(inputs[0]))
    method.train()(observe(resnet, method))
    torch.testing.assert_close(norm.running_mean, 0.9 * before + 0.1 * entered[0].mean((0, 2, 3)))


@pytest.mark.parametrize("build", [FineTuning.build, ModelPatch.build])
def test_batchnorm_can_keep_the_statistics_of_the_source(
    build: Callable[..., SourceCopy],
    resnet: Source,
    draw: Callable[..., tuple[Tensor, Tensor]],
    observe: Callable[..., Features],
    learn: Callable[..., None],
) -> None:
    method = build(resnet, 3, {"statistics": "source"})
    features = resnet(draw(6)[0])
    torch.testing.assert_close(method.train().cnn(features.images), features.final)
    learn(method, observe(resnet, method))
    source_state = dict(resnet.cnn.named_buffers())
    norms = [(name, norm) for name, norm in method.cnn.named_modules() if isinstance(norm, nn.BatchNorm2d)]
    assert norms
    for name, norm in norms:
        assert torch.equal(norm.running_mean, source_state[f"{name}.running_mean"])
    with pytest.raises(SnowError, match="no statistics 'none' for BatchNorm: there are task, source"):
        build(resnet, 3, {"statistics": "none"})


def test_what_is_saved_answers_alike(
    source: Source, observe: Callable[..., Features], learn: Callable[..., None], rebuilt: Callable[..., Method]
) -> None:
    method = FineTuning.build(source, 3)
    features = observe(source, method)
    learn(method, features)
    assert torch.equal(rebuilt(source, method)(features), method(features))


class Auxiliary(nn.Module):
    """Answers twice while it trains, as GoogLeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.block2 = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.block2(self.block1(x)).mean((2, 3))
        return (self.fc(x), x[:, :1]) if self.training else self.fc(x)


def test_auxiliary_answers_are_passed_over() -> None:
    source = Source(Auxiliary(), "tests/auxiliary", "random", Preprocessing(32), taps=["block1", "block2"])
    method = FineTuning.build(source, 4)
    images = torch.rand(2, 3, 32, 32)
    assert method.train()(Features(images, {}, images[:, 0, 0, :0], images[:, 0, 0, :0])).shape == (2, 4)


def test_a_convolution_as_classifier_is_replaced_as_well(observe: Callable[..., Features]) -> None:
    source = Source.from_torchvision("squeezenet1_1", pretrained=False, image_size=64)
    method = FineTuning.build(source, 3).eval()
    features = observe(source, method)
    assert method(features).shape == (6, 3)
    assert method.learned_parameters == source.learned_parameters - 513 * 1000 + 513 * 3


def test_the_head_learns_faster_than_the_copy(resnet: Source) -> None:
    method = FineTuning.build(resnet, 3, {"copy_rate": 0.25})
    groups = method.parameter_groups(0.1)
    rates = {id(value): group["lr_scale"] for group in groups for value in group["params"]}
    assert {rates[id(value)] for value in method.cnn.parameters()} == {0.25}
    assert {rates[id(value)] for value in method.classifier.parameters()} == {1.0}


def test_an_impossible_option_is_refused(resnet: Source) -> None:
    with pytest.raises(SnowError, match="method ft has no option width: it has copy_rate, statistics"):
        FineTuning.build(resnet, 3, {"width": 0.5})
    with pytest.raises(SnowError, match=r"copy_rate is a ratio in \(0, 1\], not 2"):
        FineTuning.build(resnet, 3, {"copy_rate": 2})
