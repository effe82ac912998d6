"""The source: nothing that a user does changes its output, and its fingerprint shows every difference."""

from __future__ import annotations

import copy
import json
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import skimage
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from snow.errors import SnowError
from snow.source import Features, Preprocessing, Source

EMBEDDED_FINGERPRINT = "sha256:e9a8770f0f999ef91c9c9c12a62e92f8de4dbb1595b10800cdd217b0432ee9a0"
CATS = {281, 282, 283, 284, 285}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def are_equal(left: Features, right: Features) -> bool:
    """Whether all tensors are equal, to the bit."""
    return left.maps.keys() == right.maps.keys() and all(
        torch.equal(a, b)
        for a, b in [
            (left.images, right.images),
            (left.final, right.final),
            (left.logits, right.logits),
            *((left.maps[name], right.maps[name]) for name in left.maps),
        ]
    )


class Dropping(nn.Module):
    """A CNN with everything that behaves differently while training."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(n, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Dropout2d(0.5)) for n in (3, 8))
        )
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout(self.units(x), 0.5, self.training).mean((2, 3))
        return self.fc(functional.dropout(x, 0.5, self.training))


def test_features_have_the_shapes_they_promise(source: Source, images: Tensor) -> None:
    features = source(images)
    assert torch.equal(features.images, source.preprocessing.normalize(images))
    assert list(features.maps) == [tap.name for tap in source.taps]
    for tap in source.taps:
        assert features.maps[tap.name].shape == (4, tap.channels, 64 // tap.stride, 64 // tap.stride)
    assert features.final.shape == (4, source.num_features)
    assert features.logits.shape == (4, source.num_classes) == (4, 1000)


def test_whole_numbers_and_unit_scale_are_the_same_pictures(source: Source, images: Tensor) -> None:
    assert are_equal(source(images), source(images.float() / 255))


def test_only_the_requested_taps_are_returned(source: Source, images: Tensor) -> None:
    full = source(images)
    for names in ([], [source.taps[-1].name], {source.taps[0].name}):
        partial = source(images, names)
        assert set(partial.maps) == set(names)
        assert all(torch.equal(partial.maps[name], full.maps[name]) for name in names)
        assert torch.equal(partial.logits, full.logits)


def test_a_pass_stops_behind_the_last_tap_where_nothing_more_is_wanted(source: Source, images: Tensor) -> None:
    first = source.taps[0].name
    ran: list[str] = []
    watched = [source.taps[1].name, source.classifier]
    handles = [
        source.cnn.get_submodule(name).register_forward_pre_hook(lambda _m, _i, name=name: ran.append(name))
        for name in watched
    ]
    short = source(images, [first], final=False)
    assert ran == []
    full = source(images, [first])
    assert ran == watched
    for handle in handles:
        handle.remove()
    assert torch.equal(short.maps[first], full.maps[first])
    assert (short.final.shape, short.logits.shape) == ((len(images), 0), (len(images), 0))


def test_an_unknown_tap_is_one_line(resnet: Source, images: Tensor) -> None:
    with pytest.raises(SnowError, match="no tap 'nope'"):
        resnet(images, ["nope"])
    with pytest.raises(SnowError, match="no tap 'nope'"):
        resnet.tap("nope")
    assert resnet.tap("layer2.0") is resnet.taps[1]


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_its_own_head_answers_as_timm_s_model(name: str, images: Tensor) -> None:
    torch.manual_seed(7)
    cnn = timm.create_model(name).eval()
    untouched = copy.deepcopy(cnn)
    untouched.to(memory_format=torch.channels_last)  # in another layout sums are rounded otherwise
    source = Source(cnn, f"timm/{name}", "random", Preprocessing(64))
    with torch.no_grad():
        normalised = source.preprocessing.normalize(images)
        final = untouched.forward_head(untouched.forward_features(normalised), pre_logits=True)
        assert torch.equal(source(images).logits, untouched(normalised))
        torch.testing.assert_close(source(images).final, final)


def test_it_has_no_parameters(source: Source) -> None:
    assert list(source.parameters()) == []
    assert not any(buffer.requires_grad for buffer in source.buffers())


def test_learned_parameters_are_those_of_the_cnn(make_source: Callable[..., Source]) -> None:
    cnn = timm.create_model("test_resnet")
    assert make_source("test_resnet").learned_parameters == sum(value.numel() for value in cnn.parameters())


def set_train_mode(source: Source) -> None:
    source.train()


def set_train_mode_of_each_module(source: Source) -> None:
    for module in source.modules():
        module.training = True
        nn.Module.train(module)


def ask_for_gradients(source: Source) -> None:
    source.requires_grad_(True)
    source.train().requires_grad_()
    for buffer in source.cnn.buffers():
        if buffer.is_floating_point():
            buffer.requires_grad_(True)


@pytest.mark.parametrize("change", [set_train_mode, set_train_mode_of_each_module, ask_for_gradients])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "dropping"])
def test_nothing_changes_its_output(
    name: str, change: Callable[[Source], None], make_source: Callable[..., Source], images: Tensor
) -> None:
    """Modes, gradients, then an optimizer over everything reachable: bit for bit the same answers and state."""
    source = Source(Dropping(), "x", "random", Preprocessing(64)) if name == "dropping" else make_source(name)
    before = source(images)
    state = {key: value.clone() for key, value in source.state_dict().items()}
    change(source)
    head = nn.Linear(source.num_features, 3)
    reachable = [value for value in source.state_dict(keep_vars=True).values() if value.is_floating_point()]
    optimizer = torch.optim.SGD([*source.parameters(), *reachable, *head.parameters()], lr=1.0, momentum=0.9)
    for _ in range(2):
        change(source)
        features = source(images)
        assert are_equal(features, before)
        loss = head(features.final).square().sum() + features.logits.sum()
        loss.backward()
        optimizer.step()
    assert all(value.grad is None for value in reachable)
    assert are_equal(source(images), before)
    assert all(torch.equal(value, state[key]) for key, value in source.state_dict().items())


def test_no_gradient_leaves_it(source: Source, images: Tensor) -> None:
    pictures = (images.float() / 255).requires_grad_()
    features = source(pictures)
    for value in (features.images, features.final, features.logits, *features.maps.values()):
        assert not value.requires_grad
        assert value.grad_fn is None


def test_what_it_gave_belongs_to_the_caller(make_source: Callable[..., Source], images: Tensor) -> None:
    source = make_source()
    before = source(images)
    spoiled = source(images)
    for value in (spoiled.images, spoiled.final, spoiled.logits, *spoiled.maps.values()):
        value.fill_(float("nan"))
    assert are_equal(source(images), before)


def test_a_batch_answers_as_its_parts(source: Source, images: Tensor) -> None:
    full, parts = source(images), [source(image[None]) for image in images]
    torch.testing.assert_close(full.logits, torch.cat([part.logits for part in parts]))


def test_two_threads_at_once(make_source: Callable[..., Source]) -> None:
    """Passes that overlap, with different taps, each capture their own maps."""
    source = make_source("test_convnext")
    names = [tap.name for tap in source.taps]
    batches = [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    requested = [names, names[:2], names[5:], [names[-1]]]
    expected = [source(batch, taps) for batch, taps in zip(batches, requested, strict=True)]
    fresh = copy.deepcopy(source)
    start = threading.Barrier(len(batches))
    wrong: list[int] = []

    def work(number: int) -> None:
        start.wait()
        for _ in range(8):
            if not are_equal(fresh(batches[number], requested[number]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("again", [copy.deepcopy, lambda source: pickle.loads(pickle.dumps(source))])
def test_copies_answer_alike_and_share_nothing(
    again: Callable[[Source], Source], make_source: Callable[..., Source], images: Tensor
) -> None:
    source = make_source()
    before = source(images)
    other = again(source)
    assert other.fingerprint == source.fingerprint
    assert other.taps == source.taps
    assert are_equal(other(images), before)
    for value in other.cnn.state_dict().values():
        value.zero_()
    assert are_equal(source(images), before)
    assert not are_equal(other(images), before)


def test_fingerprint_changes_with_any_one_bit() -> None:
    cnn = Dropping()
    fingerprints = {Source(copy.deepcopy(cnn), "x", "random", Preprocessing(64)).fingerprint}
    for name in cnn.state_dict():
        other = copy.deepcopy(cnn)
        first_byte = other.state_dict()[name].view(-1).view(torch.uint8)[:1]
        first_byte ^= 1
        fingerprints.add(Source(other, "x", "random", Preprocessing(64)).fingerprint)
    assert len(fingerprints) == 1 + len(cnn.state_dict())


@pytest.mark.parametrize(
    "other",
    [
        {"image_size": 96},
        {"mean": (0.5, 0.5, 0.5)},
        {"std": (0.5, 0.5, 0.5)},
        {"interpolation": "bilinear"},
        {"crop_pct": 1.0},
    ],
)
def test_fingerprint_changes_with_preprocessing(other: dict[str, object]) -> None:
    cnn = timm.create_model("test_resnet")
    first = Source(copy.deepcopy(cnn), "timm/test_resnet", "random", Preprocessing(**({"image_size": 64})))
    second = Source(copy.deepcopy(cnn), "timm/test_resnet", "random", Preprocessing(**({"image_size": 64} | other)))
    assert first.fingerprint != second.fingerprint


def test_fingerprint_changes_with_architecture_alone() -> None:
    cnn = timm.create_model("test_resnet")
    prints = {Source(copy.deepcopy(cnn), name, "random", Preprocessing(64)).fingerprint for name in ("a", "b")}
    assert len(prints) == 2


def test_fingerprint_does_not_depend_on_what_is_tapped_or_done(
    make_source: Callable[..., Source], images: Tensor
) -> None:
    source = make_source()
    source(images)
    source.train()
    assert source.fingerprint.startswith("sha256:")
    assert len(source.fingerprint) == 7 + 64
    assert source.fingerprint == make_source().fingerprint == make_source(taps=["layer1.0"]).fingerprint
    assert source.fingerprint == make_source().to(memory_format=torch.channels_last).fingerprint
    assert source.fingerprint != make_source(seed=1).fingerprint


def test_fingerprint_is_the_same_in_another_process(make_source: Callable[..., Source], tmp_path: Path) -> None:
    source = make_source()
    torch.save(source.cnn.state_dict(), tmp_path / "w.pth")
    program = (
        "from snow.source import Source; import sys;"
        "print(Source.open('test_resnet', weights=sys.argv[1], image_size=64).fingerprint)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "w.pth")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"})
    assert result.stdout.strip() == source.fingerprint


def test_description_is_json_and_names_the_fingerprint(resnet: Source) -> None:
    described = resnet.description()
    assert json.loads(json.dumps(described)) == described
    assert described == {
        "architecture": "timm/test_resnet",
        "weights": "random",
        "preprocessing": resnet.preprocessing.to_dict(),
        "fingerprint": resnet.fingerprint,
    }
    assert resnet.name == "timm/test_resnet (random)"


def test_a_trainable_copy_answers_alike_then_trains_and_leaves_the_source_unchanged(
    source: Source, images: Tensor
) -> None:
    before = source(images)
    state = {key: value.clone() for key, value in source.state_dict().items()}
    cnn = source.trainable_copy().eval()
    assert torch.equal(cnn(before.images), before.logits)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in cnn.modules())
    parameters = dict(cnn.named_parameters())
    assert sum(value.numel() for value in parameters.values()) == source.learned_parameters
    optimizer = torch.optim.SGD(cnn.train().parameters(), lr=0.1)
    functional.cross_entropy(cnn(before.images), torch.arange(4)).backward()
    assert all(value.grad is not None for value in parameters.values())
    optimizer.step()
    assert not torch.equal(cnn.eval()(before.images), before.logits)
    assert are_equal(source(images), before)
    assert all(torch.equal(value, state[key]) for key, value in source.state_dict().items())


def test_a_trainable_copy_has_the_parameters_of_the_original() -> None:
    cnn = timm.create_model("test_efficientnet")
    names = {name for name, _ in cnn.named_parameters()}
    state = {name: value.clone() for name, value in cnn.state_dict().items()}
    trainable_copy = Source(cnn, "timm/test_efficientnet", "random", Preprocessing(64)).trainable_copy()
    assert {name for name, _ in trainable_copy.named_parameters()} == names
    assert all(torch.equal(value, state[name]) for name, value in trainable_copy.state_dict().items())


def test_a_network_without_a_head_is_refused() -> None:
    class Headless(Dropping):
        def forward(self, x: Tensor) -> Tensor:
            return self.units(x).mean((2, 3))[:, :3]

    cnn = Headless()
    with pytest.raises(SnowError, match="x has no classifier: a source keeps its own head"):
        Source(cnn, "x", "random", Preprocessing(64))


def test_the_embedded_source_opens_offline_and_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fingerprint is written in every task that was learned on it: a change would orphan them all."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "socket", refuse)
    source = Source.open()
    assert source.fingerprint == EMBEDDED_FINGERPRINT
    assert (source.weights, source.preprocessing.image_size) == ("embedded", 224)
    assert (source.num_features, source.num_classes) == (1280, 1000)
    assert (len(source.taps), sum(tap.channels for tap in source.taps)) == (16, 8960)
    cat = Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png").convert("RGB").crop((100, 0, 400, 300))
    pixels = torch.frombuffer(bytearray(cat.resize((224, 224)).tobytes()), dtype=torch.uint8)
    logits = source(pixels.view(224, 224, 3).permute(2, 0, 1)[None]).logits
    assert logits.argmax().item() in CATS
    assert logits.softmax(1)[0, list(CATS)].sum() > 0.5
