"""Deltas that run together, stacked or compiled, answer as each of them alone does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snow.inference import CompiledEngine, FoldedEngine, Predictor, StackedEngine
from snow.inference.compiled import library
from snow.inference.compiled.library import find_compiler, load_library
from snow.inference.compiled.runner import moments as compiled_moments
from snow.inference.fused import FusedEngine
from snow.inference.stacked import SLOTS
from snow.methods import METHODS, Method
from snow.source import FINAL, LOGITS, Source
from snow.subscribe import moments

ENGINES = [
    StackedEngine,
    pytest.param(CompiledEngine, marks=pytest.mark.skipif(find_compiler() is None, reason="there is no compiler")),
]
TINY = ("test_resnet", "test_efficientnet", "test_convnext")
CONFIGS = [
    {},
    {"preset": "paper"},
    {"patchify": False},
    {"rank": 1},
    {"readout": 0.0},
    {"width": 0.5},
]


def in_turn(configs: list[Any]) -> list[Any]:
    """Pair the first configuration with every tiny CNN, and each of the others with one of them."""
    pairs = [(configs[0], name) for name in TINY]
    pairs += [(config, TINY[number % len(TINY)]) for number, config in enumerate(configs[1:])]
    return [pytest.param(config, name, id=f"{name}-{config}") for config, name in pairs]


@pytest.fixture(scope="module")
def images(draw: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
    return draw(5, seed=4)[0]


def task(source: Source, seed: int, classes: int = 3, **config: object) -> Method:
    """One with weights at random, negative scales and all statistics of BatchNorm its own."""
    torch.manual_seed(seed)
    head = {} if {"rank", "readout", "preset"} & config.keys() else {"start": "zero"}  # others are more than a delta
    method = METHODS["snow"].build(source, classes, {**head, **config}).export_form()
    for name, value in [*method.named_parameters(), *method.named_buffers()]:
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5) if value.ndim == 1 else nn.init.normal_(value, std=0.1)
            value.data *= torch.randn_like(value).sign() if name.endswith("scale") else 1
    return method


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 1e-4 * value.abs().max(), name


@lru_cache(1)
def answered(source: Source, images: Tensor, config: str) -> tuple[dict[str, Method], dict[str, Tensor]]:
    """Tasks of this one of `CONFIGS`, and what they answer one by one: for all engines."""
    options = {str(one): one for one in CONFIGS}[config]
    tasks = {str(classes): task(source, classes, classes, **options) for classes in (2, 3, 8, 9, 40)}
    return tasks, Predictor(FoldedEngine(source)).logits(images, tasks)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("config", "source"), in_turn(CONFIGS), indirect=["source"])
def test_they_answer_as_one_by_one(engine: type[FusedEngine], config: dict, source: Source, images: Tensor) -> None:
    tasks, expected = answered(source, images, str(config))
    running = engine(source)
    predictor = Predictor(running)
    assert_close(predictor.logits(images, tasks), expected)
    assert_close(predictor.logits(images[:1], tasks), {name: value[:1] for name, value in expected.items()})
    some = {name: tasks[name] for name in ("40", "3")}
    assert_close(predictor.logits(images, some), {name: expected[name] for name in some})
    prepared = running._packed if isinstance(running, CompiledEngine) else running._homes  # ty: ignore[unresolved-attribute]
    if isinstance(running, StackedEngine) and not isinstance(running, CompiledEngine):
        assert all(prepared[method] is not None for method in tasks.values()), "they do not run together"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("config", "source"), in_turn([(0, True), (0, False), (3, False), (3, True)]), indirect=["source"]
)
def test_readouts_with_and_without_a_delta(
    engine: type[FusedEngine], config: tuple[int, bool], source: Source, images: Tensor
) -> None:
    rank, with_delta = config
    tasks = {str(seed): started(source, seed, rank, with_delta) for seed in range(3)}
    running = engine(source)
    found = Predictor(running).logits(images, tasks)
    assert_close(found, Predictor(FoldedEngine(source)).logits(images, tasks))
    assert all(run_together(running, method) for method in tasks.values())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("with_delta", [True, False])
@pytest.mark.parametrize("source", ["test_resnet"], indirect=True)
def test_readouts_of_a_number_beside_those_of_tags(
    engine: type[FusedEngine], with_delta: bool, source: Source, images: Tensor
) -> None:
    tasks = {str(outputs): started(source, 0, 0, with_delta, outputs) for outputs in (1, 2, 13)}
    found = Predictor(engine(source)).logits(images, tasks)
    assert [value.shape[1] for value in found.values()] == [1, 2, 13]
    assert_close(found, Predictor(FoldedEngine(source)).logits(images, tasks))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("source", ["test_efficientnet"], indirect=True)
def test_a_saved_delta_that_reads_no_final_features(
    engine: type[FusedEngine], rank: int, source: Source, images: Tensor
) -> None:
    tasks = {
        "saved": started(source, 0, rank, True, plan={"final_keep": 0}),
        "of today": started(source, 1, rank, True),
    }
    running = engine(source)
    found = Predictor(running).logits(images, tasks)
    assert_close(found, Predictor(FoldedEngine(source)).logits(images, tasks))
    assert all(run_together(running, method) for method in tasks.values())


def run_together(engine: FusedEngine, method: Method) -> bool:
    """Whether an engine did not leave a task to the one that runs each by itself."""
    packed = engine._packed.get(method) if isinstance(engine, CompiledEngine) else None
    return packed is not None or engine._homes.get(method) is not None  # ty: ignore[unresolved-attribute]


def started(
    source: Source, seed: int, rank: int, with_delta: bool, outputs: int = 3, plan: Mapping[str, Any] | None = None
) -> Method:
    """A method whose readout gathers from final features, answers and the moments of two maps."""
    built = METHODS["snow"].build(source, outputs, {"start": "evidence"}).export_form()
    taps = [tap for tap in source.taps if tap.name in built.taps][:2]
    parts = [[FINAL, source.num_features], [LOGITS, source.num_classes]]
    parts += [[tap.name, 2 * tap.channels] for tap in taps[: 1 + seed]]
    readout = {"parts": parts, "inputs": 20 + seed, "rank": rank}
    torch.manual_seed(seed)
    config = {**built.config, "readout": readout, "delta": with_delta, "plan": {**built.config["plan"], **(plan or {})}}
    method = METHODS["snow"].rebuild(source, outputs, config)
    for value in method.parameters():
        nn.init.normal_(value, std=0.1)
    index = torch.randperm(sum(int(size) for _, size in parts))[: 20 + seed].sort().values
    method.readout.index.copy_(index)  # ty: ignore[unresolved-attribute, call-non-callable]
    method.readout.centre.normal_()  # ty: ignore[unresolved-attribute, call-non-callable]
    return method.eval()


@pytest.mark.skipif(find_compiler() is None, reason="there is no compiler")
@pytest.mark.parametrize(("name", "compiled"), [("test_efficientnet", True), ("resnet50", True), ("resnet18", False)])
def test_which_families_are_compiled(
    name: str, compiled: bool, make_source: Callable[..., Source], images: Tensor
) -> None:
    source = make_source(name)
    tasks = {str(seed): task(source, seed) for seed in range(3)}
    engine = CompiledEngine(source)
    assert_close(Predictor(engine).logits(images, tasks), Predictor(FoldedEngine(source)).logits(images, tasks))
    assert all((engine._packed[method] is not None) == compiled for method in tasks.values())


def test_a_new_task_takes_a_free_slot_and_one_that_is_gone_frees_its_own(resnet: Source, images: Tensor) -> None:
    engine = StackedEngine(resnet)
    predictor = Predictor(engine)
    tasks = {str(seed): task(resnet, seed) for seed in range(3)}
    before = predictor.logits(images, tasks)
    slots = {name: engine._homes[method].slot for name, method in tasks.items()}  # ty: ignore[unresolved-attribute]
    assert sorted(slots.values()) == [0, 1, 2]
    tasks["new"] = task(resnet, 9)
    after = predictor.logits(images, tasks)
    assert_close({name: after[name] for name in before}, before)
    del tasks["1"]
    gc.collect()
    tasks["last"] = task(resnet, 10)
    assert_close(predictor.logits(images, tasks), Predictor(FoldedEngine(resnet)).logits(images, tasks))
    assert engine._homes[tasks["last"]].slot == slots["1"]  # ty: ignore[unresolved-attribute]


def test_more_tasks_than_slots_fill_another_stack(resnet: Source, images: Tensor) -> None:
    engine = StackedEngine(resnet)
    first = task(resnet, 0)
    tasks = {str(number): task(resnet, number) for number in range(SLOTS + 2)} | {"first": first}
    found = Predictor(engine).logits(images[:2], tasks)
    assert_close(found, Predictor(FoldedEngine(resnet)).logits(images[:2], tasks))
    [stacks] = engine._stacks.values()
    assert len(stacks) == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_task_that_gives_nan_stays_alone(engine: type[FusedEngine], source: Source, images: Tensor) -> None:
    predictor = Predictor(engine(source))
    broken, sound = task(source, 0), task(source, 1)
    for value in broken.parameters():
        value.data.fill_(float("nan"))
    answers = predictor.logits(images, {"broken": broken, "sound": sound, "second": task(source, 2)})
    assert answers["broken"].isnan().all()
    assert answers["sound"].isfinite().all()
    assert answers["second"].isfinite().all()


@pytest.mark.skipif(find_compiler() is None, reason="there is no compiler")
@pytest.mark.parametrize("channels", [3, 8, 40, 200])
def test_compiled_moments(channels: int) -> None:
    maps = 3 + torch.randn(2, channels, 5, 7).relu()
    [found] = compiled_moments([maps.permute(0, 2, 3, 1).contiguous()])
    torch.testing.assert_close(found, moments(maps), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(find_compiler() is None, reason="there is no compiler")
def test_a_compiler_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "FLAGS", ("--no-such-option",))
    with pytest.raises(library.SnowError, match="choose another engine"):
        load_library.__wrapped__()
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(library.SnowError, match="needs a C compiler"):
        load_library.__wrapped__()
