"""Numbers on their way from the device to this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, distributed, nn

from snow.errors import SnowError
from snow.process.randomness import random_state, set_random_state

if TYPE_CHECKING:
    from lightning_fabric import Fabric


T = TypeVar("T")


class Readback(Generic[T]):
    """Hands each step's numbers on: at once on a CPU, one step late on a GPU, which then never waits to be read.

    Args:
        late: one step late.
    """

    def __init__(self, late: bool) -> None:
        self._late = late
        self._waiting: tuple[T, Tensor, torch.cuda.Event | None] | None = None

    def exchange(self, context: T, numbers: Tensor) -> tuple[T, list[float]] | None:
        """Takes the numbers of a step, (n,), with what belongs to them; gives those that are due, if any."""
        event = None
        if numbers.is_cuda:
            host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            numbers = host.copy_(numbers, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        due = self.flush() if self._late else None
        self._waiting = context, numbers, event
        return due if self._late else self.flush()

    def flush(self) -> tuple[T, list[float]] | None:
        """Gives the numbers that still wait."""
        if self._waiting is None:
            return None
        context, numbers, event = self._waiting
        self._waiting = None
        if event is not None:
            event.synchronize()
        return context, numbers.tolist()


class ProcessGroup:
    """All processes of a run, each with its own copy of every method and its own share of each batch.

    One reduction a step carries the gradients of all learners, so learners need no wrapper of their own, may have
    parameters without a gradient, and may stop one by one. With a single process nothing is sent.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank = fabric.global_rank
        self.count = fabric.world_size

    @property
    def is_first(self) -> bool:
        """The process that writes files and talks to listeners."""
        return self.rank == 0

    @torch.no_grad()
    def align(self, modules: Iterable[nn.Module]) -> None:
        """Gives every parameter and buffer the value that the first process has."""
        if self.count > 1:
            for module in modules:
                self._follow_first([*module.parameters(), *module.buffers()])

    @torch.no_grad()
    def reduce(self, modules: Sequence[nn.Module], numbers: Tensor) -> Tensor:
        """After backward: sums gradients and `numbers`, averages floating-point buffers, copies all other buffers.

        Args:
            modules: with gradients in their parameters; a missing gradient counts as zero.
            numbers: (n,) floating, this process's; returns the sums over all processes.
        """
        if self.count == 1:
            return numbers
        summed = [numbers]
        whole = []
        for module in modules:
            for parameter in module.parameters():
                if parameter.requires_grad:
                    if parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
                    summed.append(parameter.grad)
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    summed.append(buffer.div_(self.count))
                else:
                    whole.append(buffer)
        self._sum(summed, torch.float32)
        self._follow_first(whole)
        return numbers

    def sum(self, numbers: Tensor) -> Tensor:
        """Sums over all processes: (n,) of any type."""
        return self._fabric.strategy.all_reduce(numbers, reduce_op="sum") if self.count > 1 else numbers

    def any(self, wish: bool) -> bool:
        """Whether any process wishes so."""
        return bool(self.sum(torch.tensor([wish], dtype=torch.int64, device=self._fabric.device)).item())

    def random_states(self) -> list[dict[str, Any]]:
        """The state of the random number generators of every process."""
        if self.count == 1:
            return [random_state()]
        states: list[Any] = [None] * self.count
        distributed.all_gather_object(states, random_state())
        return states

    def set_random_states(self, states: list[dict[str, Any]]) -> None:
        set_random_state(states[self.rank])

    def agree(self, error: SnowError | None) -> None:
        """Every process raises the first one's error; also a barrier."""
        message = self._fabric.broadcast(None if error is None else str(error))
        if message is not None:
            raise SnowError(message)

    def _follow_first(self, tensors: Sequence[Tensor]) -> None:
        for wire in (torch.float32, torch.int64):
            chosen = [tensor for tensor in tensors if tensor.is_floating_point() == wire.is_floating_point]
            if not self.is_first:
                for tensor in chosen:
                    tensor.zero_()
            self._sum(chosen, wire)

    def _sum(self, tensors: Sequence[Tensor], wire: torch.dtype) -> None:
        """In place, in one message of type `wire`."""
        if not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).to(wire) for tensor in tensors])
        flat = self._fabric.strategy.all_reduce(flat, reduce_op="sum")
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))
