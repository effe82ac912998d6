"""What makes the passes of a source: the CNN itself, with hooks, or whatever answers in its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from snow.errors import SnowError

FINAL, LOGITS = "(final)", "(logits)"
"""Stand among the taps for the final features and the logits: no module has these names."""


class NetworkOutput(NamedTuple):
    """What one pass leaves, as in `Features`."""

    maps: dict[str, Tensor]
    final: Tensor
    logits: Tensor


class Network(ABC):
    """Makes passes, for one thread at a time.

    Attributes:
        at_a_time: so many pictures are best, however many are asked for; None: it depends on who asks.
    """

    preferred_batch_size: ClassVar[int | None] = None

    @abstractmethod
    def register_taps(self, taps: Collection[str]) -> None:
        """Gets ready to give these maps.

        Raises:
            SnowError: there is no such tap.
        """

    @abstractmethod
    def run(self, x: Tensor, taps: Sequence[str], final: bool) -> NetworkOutput:
        """`x`: (B, 3, S, S), normalised. With `final=False` it stops behind the last of the taps."""


class HookedNetwork(Network):
    """A CNN in eval mode, whose modules are listened to."""

    def __init__(self, cnn: nn.Module, classifier: str) -> None:
        self.cnn = cnn
        self._caught = _Caught()
        self._hooked: set[str] = set()
        cnn.get_submodule(classifier).register_forward_pre_hook(_CatchInput(self._caught))

    def register_taps(self, taps: Collection[str]) -> None:
        for name in set(taps) - self._hooked:
            try:
                module = self.cnn.get_submodule(name)
            except AttributeError:
                raise SnowError(f"there is no tap {name!r}") from None
            module.register_forward_hook(_CatchOutput(self._caught, name))
            self._hooked.add(name)

    def run(self, x: Tensor, taps: Sequence[str], final: bool) -> NetworkOutput:
        nothing = x.new_empty(x.shape[0], 0)  # `len` would fix B in an exported program
        maps = self._caught.start(taps, final)
        try:
            logits = self.cnn(x)
        except _LastTapError:
            logits = nothing
        self._caught.start(())
        return NetworkOutput({name: maps[name] for name in taps}, pooled(maps[FINAL]) if final else nothing, logits)


def pooled(value: Tensor) -> Tensor:
    """(B, C, …) -> (B, C): the mean over what is left of space."""
    return value.flatten(2).mean(2) if value.ndim > 2 else value


class _LastTapError(Exception):
    """Ends a pass: all is there that it was for."""


class _Caught:
    """What the hooks of one pass leave: module -> map. Other maps than the wanted ones are gone as soon as the CNN is
    done with them, and their memory is warm for the next."""

    def __init__(self) -> None:
        self.maps: dict[str, Tensor] = {}
        self.wanted: frozenset[str] = frozenset()
        self.final = True

    def start(self, wanted: Collection[str], final: bool = True) -> dict[str, Tensor]:
        """Where the maps of the next pass will be. Without `final` it is over when it has all that is wanted."""
        self.maps, self.wanted, self.final = {}, frozenset(wanted), final
        return self.maps


class _CatchOutput:
    """A picklable hook: keeps a module's output."""

    def __init__(self, caught: _Caught, name: str) -> None:
        self.caught, self.name = caught, name

    def __call__(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        if self.name not in self.caught.wanted:
            return
        self.caught.maps[self.name] = output
        if not self.caught.final and self.caught.wanted <= self.caught.maps.keys():
            raise _LastTapError


class _CatchInput:
    """A picklable hook: keeps a module's input."""

    def __init__(self, caught: _Caught) -> None:
        self.caught = caught

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.caught.maps[FINAL] = inputs[0]
