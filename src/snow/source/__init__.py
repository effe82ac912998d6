"""The source: the frozen pretrained CNN that feeds every task, with its taps, weights and preprocessing.

Shape letters in this room:
    B     pictures in a batch
    S     side of the square picture in pixels
    N     channels of a feature map
    D     width of the final features, the input of the source's own classifier
    C     classes of the source's own classifier
    H, W  height and width of a map: S divided by the stride of its tap
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snow.source.network import FINAL, LOGITS, global_average
    from snow.source.preprocessing import Preprocessing
    from snow.source.source import Features, Source
    from snow.source.source_file import meta_source
    from snow.source.taps import Tap, discover

_MODULES = {
    "FINAL": "network",
    "LOGITS": "network",
    "Features": "source",
    "Preprocessing": "preprocessing",
    "Source": "source",
    "Tap": "taps",
    "discover": "taps",
    "global_average": "network",
    "meta_source": "source_file",
}
"""Where each name lives. It is imported on first use: torch takes seconds, and `source.json` is read without it."""

__all__ = [
    "FINAL",
    "LOGITS",
    "Features",
    "Preprocessing",
    "Source",
    "Tap",
    "discover",
    "global_average",
    "meta_source",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
