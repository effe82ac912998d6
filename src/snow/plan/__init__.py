"""How many replicas a load needs: a simulation of the service, fed with what was measured."""

from snow.plan.demand import Demand, Mix
from snow.plan.figures import Figures
from snow.plan.outcome import Outcome
from snow.plan.plan import Goal, Planner, plan

__all__ = ["Demand", "Figures", "Goal", "Mix", "Outcome", "Planner", "plan"]
