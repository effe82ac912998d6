"""Capacity planning: how many replicas a load needs, by simulating the service with its measured times.

`demand.py` is the load, `measurements.py` the measured times, `pass_times.py` the time of a batch, `replica.py` one
simulated service, `simulation.py` a run of some of them, `planner.py` the search for the number of replicas.
"""

from snow.experiments.plan.demand import Demand, TaskMix
from snow.experiments.plan.measurements import Measurements
from snow.experiments.plan.planner import Goal, Planner, plan_replicas
from snow.experiments.plan.simulation import Outcome

__all__ = ["Demand", "Goal", "Measurements", "Outcome", "Planner", "TaskMix", "plan_replicas"]
