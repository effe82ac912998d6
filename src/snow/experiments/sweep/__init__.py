"""Sweeps: how accuracy depends on the options of SNOW (paper, section 3.2 and Table 4)."""

from snow.experiments.sweep.options import PAPER, Option, Sweep, TrialConfig
from snow.experiments.sweep.run import run_sweep

__all__ = ["PAPER", "Option", "TrialConfig", "Sweep", "run_sweep"]
