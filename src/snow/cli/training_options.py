"""Options of commands that train, from the dataclasses of methods and runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snow.methods import SnowConfig
from snow.subscribe import PoolingConfig
from snow.training.runtime import Runtime


@dataclass(frozen=True)
class SnowOptions(SnowConfig):
    """`SnowConfig` with the options of its pooling beside the others."""

    pooling: Annotated[PoolingConfig, Parameter(name="*")] = field(default_factory=PoolingConfig)


@dataclass(frozen=True)
class TrainRuntime(Runtime):
    """Runtime options of `snow train`."""

    accelerator: Annotated[
        str, Parameter(name=("--device", "--accelerator"), help="auto, cpu, cuda, cuda:1 (the second GPU) or mps.")
    ] = "auto"


@dataclass(frozen=True)
class ExperimentRuntime(Runtime):
    """Runtime options of commands with many runs: each has one process."""

    devices: Annotated[int, Parameter(parse=False)] = 1
    accelerator: Annotated[str, Parameter(parse=False)] = "auto"
    cache_dir: Annotated[Path | None, Parameter(parse=False)] = None
