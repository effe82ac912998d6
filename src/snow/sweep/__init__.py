"""How accuracy depends on the options of SNOW (paper, section 3.2 and Table 4)."""

from snow.sweep.option import PAPER, Option
from snow.sweep.point import Point
from snow.sweep.sweep import Sweep, sweep

__all__ = ["PAPER", "Option", "Point", "Sweep", "sweep"]
