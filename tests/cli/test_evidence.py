"""What `snow train` says of a start."""

from __future__ import annotations

from typing import Any

from snow.cli.evidence import evidence_lines

FINAL = {"inputs": {"final": 1280}, "rank": None, "loss": 0.5, "accuracy": 0.8}
CHOSEN: dict[str, Any] = {"inputs": {"final": 1280, "moments": 5000}, "rank": 96, "loss": 0.4, "accuracy": 0.85}
EVIDENCE: dict[str, Any] = {"left_out": 200, "chosen": CHOSEN, "layouts": [FINAL, CHOSEN]}
START = {"loss": 0.41, "accuracy": 0.84}


def test_nothing_chosen_says_nothing() -> None:
    assert evidence_lines({}) == []


def test_it_names_inputs_rank_and_figures() -> None:
    [line] = evidence_lines(EVIDENCE)
    assert line == (
        "start: 1,280 final features, 5,000 moments of channels at rank 96; log-loss 0.400, 85.0 % right on 200 "
        "left-out pictures (final features alone 0.500, 80.0 %)"
    )
    [line] = evidence_lines({**EVIDENCE, "chosen": FINAL})
    assert line.endswith("left-out pictures")


def test_it_says_what_was_kept() -> None:
    few = evidence_lines({**EVIDENCE, "training": {"held_out": 0, "kept": "start"}})
    assert "too few pictures" in few[1]
    training = {"held_out": 60, "kept": "start", "start": START, "epochs": [{"loss": 0.9, "accuracy": 0.5}]}
    assert "no epoch was better on 60" in evidence_lines({**EVIDENCE, "training": training})[1]
    numbers = {"left_out": 9, "chosen": {"inputs": {"moments": 5}, "rank": None, "loss": -0.1, "r2": 0.4567}}
    numbers["layouts"] = [{"inputs": {"final": 6}, "rank": None, "loss": 0.1, "r2": -0.5}, numbers["chosen"]]
    [line] = evidence_lines(numbers)
    assert line == "start: 5 moments of channels; R² 0.46 on 9 left-out pictures (final features alone -0.50)"
    better = {**training, "kept": "epoch 1", "epochs": [{"loss": 0.3, "accuracy": 0.9}]}
    line = evidence_lines({**EVIDENCE, "training": better})[1]
    assert line.startswith("kept: epoch 1; log-loss 0.300, 90.0 % right on 60 held-out pictures (start 0.410, 84.0 %)")
    mixed = {**better, "epochs": [{"loss": 0.3, "accuracy": 0.9, "share": 0.65}]}
    line = evidence_lines({**EVIDENCE, "training": mixed})[1]
    assert line.startswith("kept: epoch 1, 65% of it trained; log-loss 0.300")
