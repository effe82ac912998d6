"""The data sets of the paper (Table 3) in the layout in which their authors distribute them, with official splits.

torchvision has readers of three of them. They are not used: they want folders of their own around what the archives
unpack to (`dtd/dtd/`, `stanford_cars/`), give pictures only decoded, and say "Dataset not found" whatever is missing.
The tests hold that the readers here find the same pictures and labels. timm has none of the five.
"""

from __future__ import annotations

from snow.data.published.published import Published, found_in, read_published
from snow.data.published.sets import CARS, CUB200, DTD, FOOD101, STANFORD40

PUBLISHED: dict[str, Published] = {published.name: published for published in (FOOD101, DTD, STANFORD40, CARS, CUB200)}
"""By name, in the order of Table 3."""


def published_name(spec: str) -> tuple[Published, str] | None:
    """The set and the folder that `NAME:FOLDER` or `NAME` names; None if it names none."""
    name, _, folder = spec.partition(":")
    return (PUBLISHED[name], folder) if name in PUBLISHED else None


__all__ = ["PUBLISHED", "Published", "found_in", "read_published", "published_name"]
