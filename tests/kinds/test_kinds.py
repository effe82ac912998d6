"""Kinds of labels: what they read, learn, measure and say."""

from __future__ import annotations

import json
import math

import pytest
import torch

from snow.errors import SnowError
from snow.kinds import (
    FIGURES,
    KINDS,
    BadCellError,
    ClassKind,
    GradeKind,
    KindSpec,
    LabelKind,
    LossOptions,
    NumberKind,
    TagKind,
    kind_named,
    kind_of,
    saved_labels,
)
from snow.kinds.prediction import with_unit

LABELS = {
    "class": ("cat", "dog", "cat"),
    "multi": ('["dented", "red"]', '["red"]', "[]"),
    "number": ("1990.0", "2000.0", "2012.0"),
    "ordered": ("bad", "fair", "good"),
}
EXAMPLES: dict[str, LabelKind] = {name: KINDS[name].of_labels("t", labels, "") for name, labels in LABELS.items()}


def learned(kind: LabelKind, labels: tuple[str, ...]) -> torch.Tensor:
    targets = kind.targets(labels)
    return torch.tensor([kind.names.index(label) for label in labels]) if targets is None else targets


def test_there_is_an_example_of_every_kind() -> None:
    assert LABELS.keys() == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_kind_is_read_as_it_was(name: str) -> None:
    kind = EXAMPLES[name]
    assert kind_of(kind.names, json.loads(json.dumps(saved_labels(kind)))) == kind
    assert type(kind).saved_outputs(kind.names) == kind.outputs


def test_plain_classes_save_nothing_new() -> None:
    assert saved_labels(EXAMPLES["class"]) == {}
    assert kind_of(("a", "b"), {}) == ClassKind(("a", "b"))


@pytest.mark.parametrize("name", KINDS)
def test_gradient_descent_on_the_loss_finds_the_labels(name: str) -> None:
    kind, labels = EXAMPLES[name], LABELS[name]
    target = learned(kind, labels)
    logits = torch.zeros(len(labels), kind.outputs, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(80):
        optimizer.zero_grad()
        kind.loss(logits, target, LossOptions()).backward()
        optimizer.step()
    assert kind.hits(logits.detach(), target) == len(labels)
    measured = kind.metrics(kind.evidence(logits.detach(), target))
    assert measured.images == len(labels)
    assert measured.score == pytest.approx({"ordered": 0.0}.get(name, 1.0), abs=1e-3)
    assert set(measured.to_dict()) == {"images", *(figure.key for figure in kind.figures)}
    figure = FIGURES[measured.score_key]
    assert measured.to_dict()[figure.key] == pytest.approx(measured.score if figure.rises else -measured.score)
    json.dumps([entry.to_dict() for entry in kind.predictions("t", logits.detach())])


@pytest.mark.parametrize("name", KINDS)
def test_pictures_without_a_label_count_for_nothing(name: str) -> None:
    kind, labels = EXAMPLES[name], LABELS[name]
    target = learned(kind, labels)
    absent = torch.cat([target, torch.full_like(target[:1], -1 if target.ndim == 1 else math.nan)])
    logits = torch.randn(len(labels) + 1, kind.outputs, requires_grad=True)
    loss = kind.loss(logits, absent, LossOptions(0.1))
    assert loss.item() == pytest.approx(kind.loss(logits[:-1], target, LossOptions(0.1)).item(), abs=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[-1].any()
    assert kind.hits(logits.detach(), absent) == kind.hits(logits[:-1].detach(), target)
    assert torch.equal(kind.evidence(logits.detach(), absent), kind.evidence(logits[:-1].detach(), target))


@pytest.mark.parametrize("name", KINDS)
def test_probabilities_are_those_of_the_predictions(name: str) -> None:
    kind = EXAMPLES[name]
    logits = torch.randn(4, kind.outputs)
    if name == "number":
        with pytest.raises(SnowError, match="no probabilities"):
            kind.probabilities(logits)
        return
    rows = kind.probabilities(logits)
    for row, prediction in zip(rows, kind.predictions("t", logits), strict=True):
        listed = {key.removesuffix(" (off)"): value for key, value in prediction.top()}
        if name != "multi":
            assert row.sum() == pytest.approx(1)
            assert listed == pytest.approx(dict(zip(kind.names, row.tolist(), strict=True)))
        else:
            assert sorted(entry["probability"] for entry in prediction.to_dict()["tags"]) == pytest.approx(
                sorted(row.tolist())
            )


# ---- tags


def test_cells_of_tags() -> None:
    cells = ["red|dented", "dented", "", "none", "[]", '["red", "old"]', " red | red "]
    assert TagKind.read(cells, "") == [
        '["dented", "red"]',
        '["dented"]',
        None,
        "[]",
        "[]",
        '["old", "red"]',
        '["red"]',
    ]
    assert TagKind.read(["a;b", "c"], "") == ['["a", "b"]', '["c"]']
    assert TagKind.read(["a/b", "c"], "/") == ['["a", "b"]', '["c"]']
    assert TagKind.read(["a b", "c"], KindSpec.parse("multi: ").option) == ['["a", "b"]', '["c"]']
    with pytest.raises(BadCellError, match="not a JSON list"):
        TagKind.read(["[red]"], "")


def test_tags_that_a_label_does_not_speak_of_are_unknown() -> None:
    kind = TagKind(("a", "b"))
    targets = kind.targets(('{"a": 1}', '{"b": 0}', '["a"]'))
    assert targets is not None
    assert targets.nan_to_num(-1).tolist() == [[1, -1], [-1, 0], [1, 0]]


def test_a_tag_that_never_occurs_is_refused() -> None:
    with pytest.raises(SnowError, match="tag 'b' of task 't' occurs on no training picture"):
        TagKind.of_labels("t", ['{"a": 1, "b": 0}', '{"a": 0, "b": 0}'], "")
    with pytest.raises(SnowError, match="has no tags"):
        TagKind.of_labels("t", ["[]"], "")


def test_figures_of_tags_by_hand() -> None:
    """Tag a: right, missed. Tag b: right, and once too often."""
    kind = TagKind(("a", "b"))
    targets = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    logits = torch.tensor([[2.0, 1.0], [-1.0, 3.0]])
    figures = kind.metrics(kind.evidence(logits, targets)).to_dict()
    assert figures == {
        "map": 1.0,
        "micro_f1": pytest.approx(2 * 2 / (3 + 3)),
        "macro_f1": pytest.approx((2 * 1 / (1 + 2) + 2 * 1 / (2 + 1)) / 2),
        "images": 2,
    }


def test_thresholds_are_picked_for_f1() -> None:
    kind = TagKind(("rare",))
    targets = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    logits = torch.logit(torch.tensor([[0.3], [0.2], [0.1], [0.05]]))
    evidence = kind.evidence(logits, targets)
    assert kind.metrics(evidence).to_dict()["macro_f1"] == 0.0
    tuned = kind.tuned(evidence)
    assert tuned.thresholds == (pytest.approx(0.15, abs=1e-5),)
    assert tuned.metrics(evidence).to_dict()["macro_f1"] == 1.0
    assert [entry["on"] for entry in tuned.predictions("t", logits)[0].to_dict()["tags"]] == [True]


def test_rare_tags_weigh_more_when_balanced() -> None:
    targets = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, math.nan]])
    weights = TagKind(("rare", "always")).weights(targets, "balanced")
    assert weights is not None
    assert weights.tolist() == pytest.approx([3.0, 0.01])


def test_tags_that_are_on_are_never_cut_off() -> None:
    kind = TagKind(("a", "b", "c", "d"))
    [prediction] = kind.predictions("t", torch.tensor([[3.0, 2.0, 1.0, -1.0]]))
    assert [entry["tag"] for entry in prediction.to_dict(top_k=1)["tags"]] == ["a", "b", "c"]
    assert prediction.top(1) == [("a", pytest.approx(0.9526, abs=1e-4))]


# ---- numbers


def test_cells_of_numbers() -> None:
    assert NumberKind.read(["1", "2.5", "", "1/4", "-3e2"], "") == ["1.0", "2.5", None, "0.25", "-300.0"]
    assert NumberKind.read(["1,5", "2"], "") == ["1.5", "2.0"]
    assert NumberKind.read(["1.5 mm", "2mm"], "") == ["1.5 mm", "2.0 mm"]
    for cells in (["red"], ["1.5", "1,5"], ["1", "2 mm"], ["1/0"], ["1e999"]):
        with pytest.raises(BadCellError):
            NumberKind.read(cells, "")


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["4,2 mm", "3,1mm", "", "5\u00a0mm"], ["4.2 mm", "3.1 mm", None, "5.0 mm"]),
        (["€ 5", "-$5"], None),
        (["$5", "5 $", "-$5.5"], ["5.0 $", "5.0 $", "-5.5 $"]),
        (["12 %", "−7.5%"], ["12.0 %", "-7.5 %"]),
        (["5 \u00b5m", "6 \u03bcm"], ["5.0 \u00b5m", "6.0 \u00b5m"]),
        (["5 m2", "1/2 m2"], ["5.0 m2", "0.5 m2"]),
        (["0,125", "1,250"], ["0.125", "1.25"]),
        (["1,250", "980"], None),
        (["5 mm", "1 cm"], None),
        *(([cell], None) for cell in ("A4", "2024-01-05", "12:30", "1.2.3", "4x4", "10-20", "3.5.2024", "4 mm ± 1")),
    ],
)
def test_numbers_as_people_write_them(cells: list[str], labels: list[str] | None) -> None:
    if labels is not None:
        assert NumberKind.read(cells, "") == labels
        return
    with pytest.raises(BadCellError):
        NumberKind.read(cells, "")


def test_a_stray_unit_is_named_with_its_places() -> None:
    with pytest.raises(BadCellError, match="unit 'cm', and 3 others have 'mm'") as refused:
        NumberKind.read(["4 mm", "3 cm", "5 mm", "5", "6 mm"], "")
    assert (refused.value.place, refused.value.others) == (1, (3,))
    assert NumberKind.read(["4 mm", "5"], "mm") == ["4.0 mm", "5.0 mm"]
    with pytest.raises(BadCellError, match="the unit is 'cm'"):
        NumberKind.read(["4 mm", "5"], "cm")


def test_a_number_is_answered_in_its_units() -> None:
    kind = NumberKind.of_labels("t", ["10.0 mm", "20.0 mm", "30.0 mm"], "")
    [prediction] = kind.predictions("t", torch.tensor([[1.0]]))
    assert prediction.to_dict() == {"kind": "number", "value": pytest.approx(20 + 8.165, abs=1e-3), "unit": "mm"}
    assert kind.describe() == "number, 10 to 30 mm"
    assert prediction.top() == [("28.16 mm", prediction.to_dict()["value"])]
    assert kind.figure_texts({"mae": 0.81949, "rmse": None, "r2": 0.5}) == ["0.8195 mm", "", "0.5", ""]


@pytest.mark.parametrize(
    ("value", "text"), [(0.819, "0.819"), (-12345.6, "-12350"), (1987.4, "1987"), (1234567.0, "1.235e+06"), (0.0, "0")]
)
def test_numbers_are_written_in_four_digits(value: float, text: str) -> None:
    assert with_unit(value, "") == text
    assert with_unit(value, "mm") == f"{text} mm"


def test_errors_of_numbers_by_hand() -> None:
    kind = NumberKind(0.0, 1.0, 0.0, 3.0)
    evidence = kind.evidence(torch.tensor([[1.0], [2.0], [2.0]]), torch.tensor([[0.0], [2.0], [4.0]]))
    assert kind.metrics(evidence).to_dict() == {
        "mae": 1.0,
        "rmse": pytest.approx(math.sqrt(5 / 3)),
        "r2": pytest.approx(1 - 5 / 8),
        "spearman": pytest.approx(math.sqrt(3) / 2),
        "images": 3,
    }


def test_one_number_alone_is_refused() -> None:
    with pytest.raises(SnowError, match="at least two different numbers, and there is only 7"):
        NumberKind.of_labels("t", ["7.0", "7.0"], "")


def test_huber_hardly_minds_one_wrong_number() -> None:
    kind, target = NumberKind(0.0, 1.0, 0.0, 1.0), torch.tensor([[100.0]])
    logits = torch.zeros(1, 1)
    assert kind.loss(logits, target, LossOptions()) == pytest.approx(99.5)
    assert kind.loss(logits, target, LossOptions(squared=True)) == pytest.approx(10_000)


# ---- grades


def test_the_order_of_grades() -> None:
    assert GradeKind.of_labels("t", ["1/3", "1", "0", "2/3"], "").names == ("0", "1/3", "2/3", "1")
    assert GradeKind.of_labels("t", ["Good", "bad", "fair"], "").names == ("bad", "fair", "Good")
    assert GradeKind.of_labels("t", ["x", "y"], "y<x").names == ("y", "x")
    with pytest.raises(SnowError, match="say it, as ordered:x<y"):
        GradeKind.of_labels("t", ["x", "y"], "")
    with pytest.raises(SnowError, match="has the grade 'z'"):
        GradeKind.of_labels("t", ["x", "z"], "x<y")


@pytest.mark.parametrize("cells", [["0", "1/3", "2/3", "1"], ["0", "0.3333333333333333", "0.66666669", "1.0"]])
def test_grades_that_are_numbers_have_one_name(cells: list[str]) -> None:
    assert GradeKind.read(cells, "") == ["0", "1/3", "2/3", "1"]
    saved = GradeKind(("0", "0.3333333333333333", "0.6666666666666666", "1"))
    assert saved.unknown(GradeKind.read(cells, "")) == []
    assert saved.strata(GradeKind.read(cells, "")) == [0, 1, 2, 3]
    assert saved.unknown(["1/2"]) == ["1/2"]


def test_spellings_of_grades() -> None:
    assert GradeKind.read(["1/4", "0,5 mm", "01", "1st", "bad", ""], "") == ["0.25", "0.5 mm", "01", "1st", "bad", None]
    assert GradeKind.read(["0.25", "2/4"], "1/4<1/2") == ["1/4", "1/2"]
    assert GradeKind.of_labels("t", ["2nd", "1st"], "").names == ("1st", "2nd")
    with pytest.raises(BadCellError, match="'1,200' may be 1200 or 1.200"):
        GradeKind.read(["1,200", "1,500"], "")
    with pytest.raises(SnowError, match="the order of the grades"):
        GradeKind.of_labels("t", ["5 mm", "1 cm"], "")
    with pytest.raises(SnowError, match="names one twice"):
        GradeKind.of_labels("t", ["1/2", "1"], "0.5<1/2<1")


def test_the_answer_is_the_median_grade() -> None:
    kind = GradeKind(("bad", "fair", "good"))
    [prediction] = kind.predictions("t", torch.logit(torch.tensor([[0.9, 0.4]])))
    assert prediction.to_dict() == {
        "kind": "ordered",
        "grade": "fair",
        "grades": [
            {"grade": "bad", "probability": pytest.approx(0.1)},
            {"grade": "fair", "probability": pytest.approx(0.5)},
            {"grade": "good", "probability": pytest.approx(0.4)},
        ],
    }
    [crossed] = kind.predictions("t", torch.logit(torch.tensor([[0.2, 0.8]])))
    assert min(entry["probability"] for entry in crossed.to_dict()["grades"]) >= 0


def test_errors_in_grades_by_hand() -> None:
    kind = GradeKind(("0", "1", "2"))
    evidence = torch.tensor([[0.0, 2.0, 1.0], [1.0, 1.0, 1.0], [2.0, 1.0, 1.0]])
    measured = kind.metrics(evidence)
    assert measured.to_dict() == {"mae_grades": 1.0, "top1": pytest.approx(1 / 3), "images": 3}
    assert measured.details()["per_class"]["0"] == {"images": 1, "correct": 0, "recall": 0.0, "predicted": {"2": 1}}


# ---- classes


def test_balanced_weights_let_each_class_count_alike() -> None:
    labels = torch.tensor([0, 0, 0, 1, -1])
    weights = ClassKind(("often", "rare")).weights(labels, "balanced")
    assert weights is not None
    assert weights.tolist() == pytest.approx([4 / 6, 2.0])
    named = ClassKind(("often", "rare")).weights(labels, "rare=5")
    assert named is not None
    assert named.tolist() == pytest.approx([0.5, 2.5])
    assert ClassKind(("often", "rare")).weights(labels, "other=5") is None
    with pytest.raises(SnowError, match="weights above zero, not 'rare=-1'"):
        ClassKind(("often", "rare")).weights(labels, "rare=-1")


@pytest.mark.parametrize("text", ["multi:", "number: ", "ordered:", "class:"])
def test_an_empty_option_is_refused(text: str) -> None:
    with pytest.raises(SnowError, match="nothing behind the colon"):
        KindSpec.parse(text)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SnowError, match="no kind of label 'tags': there are class, multi, number, ordered"):
        kind_named("tags")


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("a",), {"kind": "multi", "thresholds": []}),
        (("a",), {"kind": "multi", "thresholds": ["x"]}),
        ((), {"kind": "number", "mean": 1.0}),
        ((), {"kind": "number", "mean": 1.0, "std": 0.0, "low": 0, "high": 1}),
        ((), {"kind": "colour"}),
    ],
)
def test_damaged_labels_are_one_line(names: tuple[str, ...], values: dict[str, object]) -> None:
    with pytest.raises(SnowError) as refused:
        kind_of(names, values)
    assert "\n" not in str(refused.value)
