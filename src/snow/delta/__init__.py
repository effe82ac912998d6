"""Deltas: the small networks of the tasks."""

from snow.delta.delta import Delta
from snow.delta.families import FAMILIES, make_plan
from snow.delta.plan import DeltaPlan

__all__ = ["FAMILIES", "Delta", "DeltaPlan", "make_plan"]
