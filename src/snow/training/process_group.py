"""The processes of a run, and the way of their numbers from the device."""

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
    """Reads the numbers of each step: at once on a CPU, one step late on a GPU, so that the GPU never waits.

    Args:
        late: read one step late.
    """

    def __init__(self, late: bool) -> None:
        self._late = late
        self._pending: tuple[T, Tensor, torch.cuda.Event | None] | None = None

    def exchange(self, context: T, numbers: Tensor) -> tuple[T, list[float]] | None:
        """Start to read the numbers of a step, (n,), with their context; return those that have arrived, if any."""
        event = None
        if numbers.is_cuda:
            host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            numbers = host.copy_(numbers, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        due = self.flush() if self._late else None
        self._pending = context, numbers, event
        return due if self._late else self.flush()

    def flush(self) -> tuple[T, list[float]] | None:
        """Wait for the numbers that have not been returned yet."""
        if self._pending is None:
            return None
        context, numbers, event = self._pending
        self._pending = None
        if event is not None:
            event.synchronize()
        return context, numbers.tolist()


class ProcessGroup:
    """The processes of a run, each with a copy of every method and a share of each batch.

    One all-reduce a step sums the gradients of all learners, so learners need no DDP wrapper, may have parameters
    without a gradient, and may stop one by one. With a single process nothing is sent.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank = fabric.global_rank
        self.count = fabric.world_size

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and calls listeners."""
        return self.rank == 0

    @torch.no_grad()
    def align(self, modules: Iterable[nn.Module]) -> None:
        """Copy every parameter and buffer of the first process to the others."""
        if self.count > 1:
            for module in modules:
                self._copy_from_first([*module.parameters(), *module.buffers()])

    @torch.no_grad()
    def reduce(self, modules: Sequence[nn.Module], numbers: Tensor) -> Tensor:
        """After backward: sum gradients and `numbers`, average floating-point buffers, copy all other buffers.

        Args:
            modules: with gradients in their parameters; a missing gradient counts as zero.
            numbers: (n,) floating, of this process.

        Returns:
            (n,), the sums of `numbers` over all processes.
        """
        if self.count == 1:
            return numbers
        summed = [numbers]
        integers = []
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
                    integers.append(buffer)
        self._sum(summed, torch.float32)
        self._copy_from_first(integers)
        return numbers

    def sum(self, numbers: Tensor) -> Tensor:
        """Sum over all processes: (n,) -> (n,)."""
        return self._fabric.strategy.all_reduce(numbers, reduce_op="sum") if self.count > 1 else numbers

    def gather(self, rows: Tensor) -> Tensor:
        """Join the rows of all processes, in their order: (n, k) each on the CPU -> (m, k)."""
        if self.count == 1:
            return rows
        parts: list[Any] = [None] * self.count
        distributed.all_gather_object(parts, rows)
        return torch.cat(parts)

    def any(self, condition: bool) -> bool:
        """Whether the condition holds in any process."""
        return bool(self.sum(torch.tensor([condition], dtype=torch.int64, device=self._fabric.device)).item())

    def random_states(self) -> list[dict[str, Any]]:
        """Return the state of the random number generators of every process."""
        if self.count == 1:
            return [random_state()]
        states: list[Any] = [None] * self.count
        distributed.all_gather_object(states, random_state())
        return states

    def set_random_states(self, states: list[dict[str, Any]]) -> None:
        set_random_state(states[self.rank])

    def agree(self, error: SnowError | None) -> None:
        """Raise the first process's error in every process; also a barrier."""
        error = self._fabric.broadcast(error)
        if error is not None:
            raise error

    def _copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        for dtype in (torch.float32, torch.int64):
            alike = [tensor for tensor in tensors if tensor.is_floating_point() == dtype.is_floating_point]
            if not self.is_first:
                for tensor in alike:
                    tensor.zero_()
            self._sum(alike, dtype)

    def _sum(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> None:
        """Sum over all processes in place, in one message of type `dtype`."""
        if not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).to(dtype) for tensor in tensors])
        flat = self._fabric.strategy.all_reduce(flat, reduce_op="sum")
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))
