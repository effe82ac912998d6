"""How many replicas a load needs: a simulation of the service, fed with what was measured."""

from snow.experiments.plan.demand import Demand, TaskMix
from snow.experiments.plan.figures import Figures
from snow.experiments.plan.outcome import Outcome
from snow.experiments.plan.plan import Goal, Planner, plan

__all__ = ["Demand", "Figures", "Goal", "TaskMix", "Outcome", "Planner", "plan"]
