from __future__ import annotations

import pytest
import torch
from tiny import Noisy, built, tiny_dataset, tiny_pictures, tiny_runtime, tiny_source
from torch import Tensor

from snow.errors import SnowError
from snow.kinds import ClassKind, ClassMetrics
from snow.source import Features
from snow.training.evaluate import evaluate


class Ranked(Noisy):
    """Answers class 0 first, then 1, 2, …"""

    def forward(self, features: Features) -> Tensor:
        assert not self.training
        return -torch.arange(self.num_classes).float().expand(len(features.images), -1)


LABELS = torch.tensor([[0], [0], [1], [4], [5], [-1], [7]])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("batch_size", [2, 64])
def test_top1_and_top5(workers: int, batch_size: int) -> None:
    method = Ranked(8).train()
    answer = evaluate(
        tiny_source(),
        {"any": method},
        tiny_pictures(LABELS),
        batch_size=batch_size,
        runtime=tiny_runtime(workers=workers),
    )
    assert answer == {"any": ClassMetrics(6, top1=2 / 6, top5=4 / 6)}
    figures = answer["any"].to_dict()
    assert (figures["top1"], figures["top5"], figures["images"]) == (2 / 6, 4 / 6, 6)
    assert figures["balanced_accuracy"] == 1 / 5  # class 0 of the five that have pictures
    assert method.training


def test_fewer_than_five_classes() -> None:
    pictures = tiny_pictures(torch.tensor([[0], [1], [1]]))
    assert evaluate(tiny_source(), {"any": Ranked(2)}, pictures, runtime=tiny_runtime()) == {
        "any": ClassMetrics(3, 1 / 3, 1.0)
    }


def test_each_learner_has_the_column_of_its_task() -> None:
    labels = torch.tensor([[0, 1], [0, 2], [0, -1]])
    source, pictures = tiny_source(), tiny_pictures(labels)
    answer = evaluate(source, {"b": Ranked(8), "a": Ranked(8)}, pictures, tasks=["a", "b"], runtime=tiny_runtime())
    assert answer == {"b": ClassMetrics(2, 0.0, 1.0), "a": ClassMetrics(3, 1.0, 1.0)}
    with pytest.raises(SnowError, match="no labels for c: .* a, b"):
        evaluate(source, {"c": Ranked(8)}, pictures, tasks=["a", "b"], runtime=tiny_runtime())


def test_no_picture_is_no_success() -> None:
    empty = tiny_pictures(torch.empty(0, 1, dtype=torch.int64))
    assert evaluate(tiny_source(), {"any": Ranked(3)}, empty, runtime=tiny_runtime()) == {
        "any": ClassMetrics(0, 0.0, 0.0)
    }


def test_predictions_are_counted_by_class() -> None:
    answer = evaluate(tiny_source(), {"any": Ranked(8)}, tiny_pictures(LABELS), batch_size=2, runtime=tiny_runtime())[
        "any"
    ]
    assert answer.confusion is not None
    assert answer.confusion[:, 0].tolist() == [2, 1, 0, 0, 1, 1, 0, 1]
    assert answer.confusion.sum() == answer.images
    classes = answer.per_class("abcdefgh")
    assert classes["a"] == {"images": 2, "correct": 2, "recall": 1.0, "predicted": {"a": 2}}
    assert classes["b"] == {"images": 1, "correct": 0, "recall": 0.0, "predicted": {"a": 1}}
    assert classes["c"] == {"images": 0, "correct": 0, "recall": None, "predicted": {}}
    with pytest.raises(SnowError, match="were not counted by class"):
        ClassMetrics(1, 1.0, 1.0).per_class("ab")


def test_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    labels = torch.tensor([0, 0, 1, 1, -1])
    kind, logits = ClassKind(("a", "b")), torch.tensor([[3.0, 0.0]] * 5)
    confidence = float(logits.softmax(1)[0, 0])
    evidence = torch.cat([kind.evidence(logits[[row]], labels[[row]]) for row in range(5)])
    assert len(evidence) == 4
    assert kind.metrics(evidence).to_dict()["ece"] == pytest.approx(confidence - 0.5, abs=1e-6)
    assert kind.metrics(kind.evidence(torch.zeros(4, 2), labels[:4])).to_dict()["ece"] == pytest.approx(0.0)
    assert kind.metrics(evidence[:0]).to_dict()["ece"] == 0


def test_metrics_of_classes_have_the_calibration_error() -> None:
    measured = evaluate(tiny_source(), {"any": built()}, tiny_dataset(24, 60).test, runtime=tiny_runtime())["any"]
    assert 0 < measured.to_dict()["ece"] < 1
