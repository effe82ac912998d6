"""How much a service takes on."""

from __future__ import annotations

from dataclasses import dataclass

from snow.errors import SnowError


@dataclass(frozen=True)
class Limits:
    """What is too much, and for how long anything is waited for.

    Attributes:
        max_batch: pictures in one pass of the source, at most.
        max_wait: milliseconds for which the first picture of a batch waits for others.
        queue: pictures that may be accepted and not answered yet; what comes on top is refused with 503 at once.
        deadline: seconds from its arrival in which a request is answered or refused with 504.
        max_bytes: of a request for answers.
        max_pixels: of a picture; a larger one is taken for a decompression bomb and never decoded.
        max_pictures: in a request.
        max_upload: bytes of a task that is uploaded, as it comes and unpacked.
        rate: requests a second of each address, on average; 0 for no limit.
        burst: requests that an address which was silent may send at once.
        decoders: threads that decode pictures.
        poll: seconds between two looks at the folder of the hub.

    Raises:
        SnowError: a limit below what lets anything through.
    """

    max_batch: int = 16
    max_wait: float = 4.0
    queue: int = 256
    deadline: float = 10.0
    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_pictures: int = 64
    max_upload: int = 512 * 2**20
    rate: float = 0.0
    burst: int = 20
    decoders: int = 2
    poll: float = 1.0

    def __post_init__(self) -> None:
        whole = ("max_batch", "queue", "max_bytes", "max_pixels", "max_pictures", "max_upload", "burst", "decoders")
        for name in whole:
            if getattr(self, name) < 1:
                raise SnowError(f"{name} is at least 1, not {getattr(self, name)}")
        for name in ("deadline", "poll"):
            if not 0 < getattr(self, name) <= 86_400:
                raise SnowError(f"{name} is a number of seconds above 0 and up to a day, not {getattr(self, name)}")
        for name in ("max_wait", "rate"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SnowError(f"{name} is zero or more, not {getattr(self, name)}")
        if self.max_pictures > self.queue:
            raise SnowError(f"a request of {self.max_pictures} pictures never fits in a queue of {self.queue}")
