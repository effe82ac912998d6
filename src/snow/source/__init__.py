"""The frozen CNN that feeds every task: its taps, its weights, its pictures."""

from snow.source.preprocessing import Preprocessing
from snow.source.source import Features, Source, unfilled_source
from snow.source.taps import Tap, discover

__all__ = ["Features", "Preprocessing", "Source", "Tap", "discover", "unfilled_source"]
