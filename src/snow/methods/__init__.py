"""Methods: the ways to learn a task from a source. A new one is one file and one line in `METHODS`.

Shape letters in this room:
    B     pictures in a batch
    S     side of the square picture
    N     channels of a source map
    K     channels, or features, that are selected
    D     width of the source's final features
    C     classes of the task
    H, W  height and width of a map
"""

from collections import ChainMap
from collections.abc import Mapping
from importlib.util import find_spec

from snow.delta import SnowConfig
from snow.methods.extended import Extended
from snow.methods.feature_extraction import FeatureExtraction
from snow.methods.final_output import FinalOutput
from snow.methods.fine_tuning import FineTuning
from snow.methods.head2toe import Head2Toe
from snow.methods.learning_without_forgetting import LearningWithoutForgetting
from snow.methods.lora import Lora
from snow.methods.method import Method
from snow.methods.model_patch import ModelPatch
from snow.methods.partial_fine_tuning import PartialFineTuning
from snow.methods.progressive_nets import ProgressiveNets
from snow.methods.snow import Snow
from snow.methods.tail import Tail

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Snow,
        Tail,
        FinalOutput,
        FeatureExtraction,
        FineTuning,
        PartialFineTuning,
        ModelPatch,
        ProgressiveNets,
        LearningWithoutForgetting,
        Lora,
        Head2Toe,
    )
}


Extended.methods = METHODS

SAVED_METHODS: Mapping[str, type[Method]] = ChainMap({Extended.name: Extended}, METHODS)
"""Methods that a saved task may have: those in `METHODS`, also if added later, and what is made of them."""


def installed_methods() -> list[str]:
    """List the methods whose extra packages are installed."""
    return [name for name, method in METHODS.items() if method.extra is None or find_spec(method.extra)]


__all__ = ["METHODS", "SAVED_METHODS", "Extended", "FinalOutput", "Method", "Snow", "SnowConfig", "installed_methods"]
