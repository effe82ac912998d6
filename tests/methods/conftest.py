"""Fixtures that the tests of single methods share."""

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
    """`observe(source, method)`: the features of six pictures in three classes that the method uses, and no others."""

    def features_for(source: Source, method: Method, count: int = 6, seed: int = 0) -> Features:
        images, _ = draw(count, 3, seed=seed)
        features = source(images, method.taps)
        empty = features.final[:, :0]
        return features if method.uses_source else Features(features.images, {}, empty, empty)

    return features_for


@pytest.fixture(scope="session")
def learn() -> Callable[..., None]:
    """`learn(method, features)`: some steps of plain SGD to classes 0, 1, 2, 0, … with the method's penalty."""

    def train(method: Method, features: Features, steps: int = 3, progress: float = 0.0) -> None:
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

    return train


@pytest.fixture(scope="session")
def rebuilt() -> Callable[..., Method]:
    """`rebuilt(source, method)`: the method rebuilt from its saved configuration and tensors."""

    def save_and_rebuild(source: Source, method: Method) -> Method:
        exported = method.export_form()
        config = json.loads(json.dumps(exported.config))
        other = METHODS[method.name].rebuild(source, method.num_classes, config)
        other.load_state_dict({name: value.clone() for name, value in exported.state_dict().items()})
        return other

    return save_and_rebuild


@pytest.fixture(scope="session")
def reached_parameters() -> Callable[..., set[str]]:
    """`pulled(method, features)`: the parameters that a loss reaches once none of them is zero, by name."""

    def names(method: Method, features: Features) -> set[str]:
        for value in method.parameters():
            if not value.any():
                torch.nn.init.normal_(value)
        method.train()(features).square().sum().backward()
        return {name for name, value in method.named_parameters() if value.grad is not None and value.grad.any()}

    return names
