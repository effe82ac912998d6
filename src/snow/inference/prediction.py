"""What stands for a prediction that failed, and the JSON that every interface sends.

The predictions themselves are in `snow.kinds`, one class for each kind of label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from snow.errors import SnowError
from snow.kinds import Prediction

SOURCE_HEAD = "(source)"
"""Name under which the source's own head is asked, as if it were a task. No task can have this name."""


@final
@dataclass(frozen=True)
class Failure:
    """Stands in the place of a prediction that could not be made.

    Attributes:
        task: name of the task.
        error: one line that says why.
    """

    task: str
    error: str

    def to_dict(self, top_k: int | None = None) -> dict[str, Any]:
        """Convert to JSON values."""
        return {"error": self.error}


def require_share(reject: float) -> None:
    """Raises SnowError: not a share of pictures that can be rejected."""
    if not 0 <= reject < 1:
        raise SnowError(f"reject is a share of the task's own pictures in [0, 1), such as 0.05, not {reject}")


def rejecting(entry: Prediction | Failure, reject: float) -> Prediction | Failure:
    """Answer unknown where the picture is less familiar than the share `reject` of the task's own pictures."""
    if isinstance(entry, Failure) or entry.known is None or entry.known >= reject:
        return entry
    return replace(entry, rejected=True)


def encode(
    image: str | None,
    predictions: Mapping[str, Prediction | Failure],
    top_k: int | None = None,
    reject: float = 0.0,
) -> dict[str, Any]:
    """Convert the predictions for one picture to JSON values; the command line, the service and the page share this.

    Args:
        image: name of the picture, if it has one.
        predictions: task -> prediction.
        top_k: number of classes to list per task; None lists all.
        reject: see `rejecting`.

    Returns:
        `{"image": ..., "tasks": {TASK: {"kind": "class", "classes": [{"class": ..., "probability": ...}, ...]}}}`,
        for a class; `tags`, `value` or `grade` for other kinds (`snow.kinds`), and `{"error": ...}` in the place of a
        task that failed.
    """
    return {
        "image": image,
        "tasks": {task: rejecting(entry, reject).to_dict(top_k) for task, entry in predictions.items()},
    }
