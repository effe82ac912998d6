"""The frozen CNN that feeds every task: its taps, its weights, its pictures."""

from snow.source.network import FINAL, LOGITS
from snow.source.preprocessing import Preprocessing
from snow.source.source import Features, Source, meta_source
from snow.source.taps import Tap, discover

__all__ = ["FINAL", "LOGITS", "Features", "Preprocessing", "Source", "Tap", "discover", "meta_source"]
