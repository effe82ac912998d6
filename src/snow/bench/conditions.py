"""What all rows of a bench have in common."""

from __future__ import annotations

from dataclasses import dataclass

from snow.training.recipe import Recipe


@dataclass(frozen=True)
class Conditions:
    """Source, pictures and recipe of a bench.

    Attributes:
        source: as `Source.open` takes it. Its weights do not matter, and are not looked for.
        image_size: side of the pictures in pixels.
        classes: of the task.
        recipe: batch size, precision, optimizer, augmentation, loading processes and seed.
        accelerator: "auto", "cpu", "cuda" or "mps".
        steps: that are timed, after two that are not.
    """

    source: str
    image_size: int
    classes: int
    recipe: Recipe
    accelerator: str = "auto"
    steps: int = 5
