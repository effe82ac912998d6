"""The paper's tables and figures, measured again and shown next to the paper's own: one file per table or figure."""

from snow.experiments.reproduce.experiment import Experiment
from snow.experiments.reproduce.figure4 import Figure4
from snow.experiments.reproduce.figure5 import Figure5
from snow.experiments.reproduce.figure6 import Figure6
from snow.experiments.reproduce.table4 import Table4
from snow.experiments.reproduce.table5 import Table5
from snow.experiments.reproduce.table6 import Table6
from snow.experiments.reproduce.table7 import Table7
from snow.experiments.reproduce.table8 import Table8
from snow.experiments.reproduce.table9 import Table9

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (Table4(), Table5(), Table6(), Table7(), Table8(), Table9(), Figure4(), Figure5(), Figure6())
}

__all__ = ["EXPERIMENTS", "Experiment"]
