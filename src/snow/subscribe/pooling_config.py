"""The options of channel pooling."""

from __future__ import annotations

from dataclasses import dataclass

from snow.errors import SnowError

SLOTS = ("channel", "index")
INITS = ("score", "normal", "ones")


@dataclass(frozen=True)
class PoolingConfig:
    """How channel pooling learns its selection. `PoolingConfig.literal()` is Algorithm 1 as written.

    Algorithm 1 does not say which weights of the layer behind a selected channel meets when the selection changes;
    `slots` decides it.

    Attributes:
        sigma2: variance of the noise on the weights w at the start of training (sigma² in Algorithm 1).
        slots: "channel" gives each source channel a weight column of its own, gathered with the channel; only the K
            selected columns are saved. With "index" the j-th selected channel meets the j-th column, which learns
            little.
        init: initial w. "ones": all 1; "normal": around 1; "score": as "normal", in the order of the channels'
            calibrated F ratio over the classes.
        spread: standard deviation of the initial w around 1.
        settle: fraction of training over which the noise falls linearly to zero; 0 keeps it constant.
        rescale: divide each channel by its calibrated standard deviation; folded into the saved scale.
        norm: BatchNorm behind the pooling; needs slots="index", because its statistics belong to positions.
        relu: ReLU behind the pooling.

    Raises:
        SnowError: an option outside its choices or its range.
    """

    sigma2: float = 1e-3
    slots: str = "channel"
    init: str = "score"
    spread: float = 0.3
    settle: float = 0.5
    rescale: bool = True
    norm: bool = False
    relu: bool = False

    def __post_init__(self) -> None:
        if self.slots not in SLOTS or self.init not in INITS:
            raise SnowError(f"channel pooling: slots is one of {', '.join(SLOTS)}, init one of {', '.join(INITS)}")
        if self.norm and self.slots == "channel":
            raise SnowError("BatchNorm behind channel pooling needs slots='index': its statistics belong to positions")
        if self.sigma2 < 0 or self.spread < 0 or not 0 <= self.settle <= 1:
            raise SnowError("channel pooling: sigma2 and spread cannot be negative, settle is between 0 and 1")

    @classmethod
    def literal(cls, sigma2: float = 1e-3) -> PoolingConfig:
        """Make the paper's Algorithm 1 as written: w starts as ones, columns by position, constant noise."""
        return cls(sigma2, slots="index", init="ones", settle=0.0, rescale=False)
