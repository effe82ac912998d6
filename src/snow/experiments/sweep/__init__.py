"""How accuracy depends on the options of SNOW (paper, section 3.2 and Table 4)."""

from snow.experiments.sweep.options import PAPER, Option, Point, Sweep
from snow.experiments.sweep.sweep import sweep

__all__ = ["PAPER", "Option", "Point", "Sweep", "sweep"]
