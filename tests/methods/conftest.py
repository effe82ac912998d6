"""What the tests of single methods share."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snow.methods import METHODS, Method
from snow.source import Features, Source


@pytest.fixture(scope="session")
def observe(draw: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Features]:
    """`observe(source, method)`: what the method sees of six pictures in three classes, and no more than that."""

    def seen(source: Source, method: Method, count: int = 6, seed: int = 0) -> Features:
        images, _ = draw(count, 3, seed=seed)
        features = source(images, method.taps)
        nothing = features.final[:, :0]
        return features if method.uses_source else Features(features.images, {}, nothing, nothing)

    return seen


@pytest.fixture(scope="session")
def learn() -> Callable[..., None]:
    """`learn(method, features)`: some steps of plain SGD towards classes 0, 1, 2, 0, … with the method's penalty."""

    def taught(method: Method, features: Features, steps: int = 3, progress: float = 0.0) -> None:
        labels = torch.arange(len(features.images)) % method.num_classes
        optimizer = torch.optim.SGD([value for value in method.parameters() if value.requires_grad], lr=0.05)
        method.train()
        for _ in range(steps):
            method.set_progress(progress)
            loss = torch.nn.functional.cross_entropy(method(features), labels)
            penalty = method.penalty()
            optimizer.zero_grad()
            (loss if penalty is None else loss + penalty).backward()
            optimizer.step()
        method.eval()

    return taught


@pytest.fixture(scope="session")
def rebuilt() -> Callable[..., Method]:
    """`rebuilt(source, method)`: what comes back from the configuration and tensors that are saved."""

    def again(source: Source, method: Method) -> Method:
        served = method.export_form()
        config = json.loads(json.dumps(served.config))
        other = METHODS[method.name].rebuild(source, method.num_classes, config)
        other.load_state_dict({name: value.clone() for name, value in served.state_dict().items()})
        return other

    return again


@pytest.fixture(scope="session")
def pulled() -> Callable[..., set[str]]:
    """`pulled(method, features)`: the parameters that a loss reaches once none of them is zero, by name."""

    def names(method: Method, features: Features) -> set[str]:
        for value in method.parameters():
            if not value.any():
                torch.nn.init.normal_(value)
        method.train()(features).square().sum().backward()
        return {name for name, value in method.named_parameters() if value.grad is not None and value.grad.any()}

    return names
