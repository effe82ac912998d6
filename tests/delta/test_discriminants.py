"""Linear discriminants against their definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snow.delta.discriminants import discriminants

CLASSES = 4


def pictures(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Classes that differ in the first input, which a nuisance drowns together with the second, and in the last."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % CLASSES
    inputs = torch.randn(count, size, generator=generator)
    inputs[:, 0] += label
    inputs[:, -1] += label % 2
    inputs[:, :2] += 5 * torch.randn(count, 1, generator=generator)
    return inputs, label


def within(inputs: Tensor, label: Tensor) -> Tensor:
    means = torch.stack([inputs[label == index].mean(0) for index in label.unique()])
    residuals = inputs - means[label]
    return residuals.T @ residuals / len(residuals)


@pytest.mark.parametrize("size", [6, 300])
def test_they_are_those_of_shrunken_discriminant_analysis(size: int) -> None:
    """Fewer inputs than pictures and more: both come to the generalised eigenvectors of the two scatters."""
    inputs, label = pictures(120, size)
    directions = discriminants(inputs.double(), label, CLASSES)
    scatter = within(inputs.double(), label)
    shrunk = 0.7 * scatter + 0.3 * scatter.diagonal().diag()
    means = torch.stack([inputs.double()[label == index].mean(0) for index in range(CLASSES)])
    centred = means - means.mean(0)
    assert directions.shape == (CLASSES - 1, size)
    torch.testing.assert_close(
        directions @ shrunk @ directions.T, torch.eye(CLASSES - 1).double(), rtol=1e-6, atol=1e-6
    )
    between = directions @ centred.T @ centred @ directions.T
    strengths = between.diagonal()
    torch.testing.assert_close(between, strengths.diag(), rtol=1e-6, atol=1e-6 * float(strengths[0]))
    assert strengths.tolist() == sorted(strengths.tolist(), reverse=True)
    best = torch.linalg.eigvalsh(centred @ torch.linalg.solve(shrunk, centred.T)).flip(0)[: CLASSES - 1]
    torch.testing.assert_close(strengths, best)


def test_a_nuisance_input_is_ignored() -> None:
    inputs, label = pictures(2000, 3)
    first = discriminants(inputs, label, 1)[0]
    assert first[0] * first[1] < 0
    fresh, answers = pictures(2000, 3, seed=1)
    along_direction, along_input = (
        torch.corrcoef(torch.stack([value, answers.float()]))[0, 1].abs() for value in (fresh @ first, fresh[:, 0])
    )
    assert along_direction > 1.5 * along_input


def test_pictures_without_a_label_and_their_classes_do_not_count() -> None:
    inputs, label = pictures(80, 6)
    expected = discriminants(inputs, label, 2)
    more = torch.cat([inputs, torch.full((9, 6), 1e3)])
    torch.testing.assert_close(discriminants(more, torch.cat([label, torch.full((9,), -1)]), 2), expected)


@pytest.mark.parametrize("labels", [[], [0], [-1, -1], [2, 2, 2], [0, 1], [0, 1, 2, 3]])
def test_no_more_are_found_than_the_sample_shows(labels: list[int]) -> None:
    directions = discriminants(torch.randn(len(labels), 7), torch.tensor(labels, dtype=torch.int64), 5)
    assert directions.shape == (0, 7)


def test_inputs_that_never_change_are_no_directions() -> None:
    inputs, label = pictures(80, 6)
    inputs[:, 4] = 3.7
    directions = discriminants(inputs, label, 3)
    assert directions.isfinite().all()
    assert directions[:, 4].abs().max() < 1e-3
