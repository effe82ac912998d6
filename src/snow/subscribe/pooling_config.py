"""The options of channel pooling."""

from __future__ import annotations

from dataclasses import dataclass

from snow.errors import SnowError

SLOTS = ("channel", "index")
INITS = ("score", "normal", "ones")


@dataclass(frozen=True)
class PoolingConfig:
    """How channel pooling learns its choice. The defaults learn; `PoolingConfig.literal()` is Algorithm 1 as written.

    Attributes:
        sigma2: variance of the noise at the start.
        slots: Algorithm 1 does not say how the layer behind meets a choice that changes. "index": the j-th chosen
            channel meets the j-th weight column, with which little is learned. "channel": each source channel has
            a weight column of its own and the chosen columns are gathered with the channels; after training only
            those K are kept, so what is served is the same.
        init: how `w` starts: "ones"; "normal" around 1; or "score": as "normal", in the order of the channels'
            calibrated scores.
        spread: standard deviation of `w` around 1 at the start.
        settle: the noise falls linearly to nothing at this fraction of training; 0: it stays.
        rescale: divide each channel by its calibrated standard deviation; folded into the scale when served.
        norm: BatchNorm behind the pooling; needs slots="index", because its statistics belong to slots.
        relu: ReLU behind the pooling.

    Raises:
        SnowError: an option outside its choices.
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
            raise SnowError("BatchNorm behind channel pooling needs slots='index': its statistics belong to slots")
        if self.sigma2 < 0 or self.spread < 0 or not 0 <= self.settle <= 1:
            raise SnowError("channel pooling: sigma2 and spread cannot be negative, settle is between 0 and 1")

    @classmethod
    def literal(cls, sigma2: float = 1e-3) -> PoolingConfig:
        """The paper's Algorithm 1 as written: w starts as ones, slots by index, constant noise."""
        return cls(sigma2, slots="index", init="ones", settle=0.0, rescale=False)
