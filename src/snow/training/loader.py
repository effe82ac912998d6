"""Which pictures come when: a pure function of seed and epoch, so that a run can go on from any step."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from snow.data import Pictures
from snow.errors import SnowError


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch as one process loads them: lists of (index of a picture, seed of its augmentation).

    Each epoch is a new permutation, cut into batches whose sizes differ by one at most, so that no batch is tiny and
    no picture is left out. Process r of P takes every P-th picture of each batch, starting with the r-th: order,
    batches and augmentation are the same for any number of processes.

    Args:
        pictures: how many there are.
        batch_size: largest number of pictures in a batch, over all processes.
        seed: of the permutations and augmentations.
        rank: this process, of `processes`.
        views: in how many ways a picture is augmented, in turn from epoch to epoch; None: always in a new one.

    Raises:
        SnowError: a process would get fewer than two pictures of some batch (batch normalisation needs two).
    """

    def __init__(
        self, pictures: int, batch_size: int, seed: int, rank: int = 0, processes: int = 1, views: int | None = None
    ) -> None:
        self.pictures = pictures
        self.batches = -(-pictures // batch_size)
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.views = views
        if not pictures:
            raise SnowError("there is no picture to train on")
        smallest = pictures // self.batches
        if smallest < 2 * processes:
            raise SnowError(
                f"{pictures} training pictures in batches of at most {batch_size} make batches of {smallest}: "
                f"each of {processes} process{'es' * (processes > 1)} needs 2 or more, so use a larger batch size"
                f"{', fewer processes' * (processes > 1)} or more pictures"
            )
        self.start(0)

    def start(self, epoch: int, batch: int = 0) -> None:
        """The next iteration begins with this batch of this epoch, both counted from 0."""
        generator = self._generator(epoch)
        self._indices = torch.randperm(self.pictures, generator=generator)
        self.view = epoch
        if self.views is not None:
            self.view = epoch % self.views
            generator = self._generator(self.view, self.views)
        self._seeds = torch.randint(2**62, (self.pictures,), generator=generator)
        if self.views is not None:
            self._seeds = self._seeds[self._indices]  # a view belongs to a picture, not to its turn
        self._first = batch

    def batch(self, number: int) -> Tensor:
        """Indices of all pictures in a batch of this epoch, over all processes: (B,)."""
        return self._indices[self._edge(number) : self._edge(number + 1)]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for number in range(self._first, self.batches):
            mine = slice(self._edge(number) + self.rank, self._edge(number + 1), self.processes)
            yield list(zip(self._indices[mine].tolist(), self._seeds[mine].tolist(), strict=True))

    def __len__(self) -> int:
        return self.batches - self._first

    def _generator(self, *numbers: int) -> torch.Generator:
        seed = int(np.random.SeedSequence((self.seed, *numbers)).generate_state(1, np.uint64)[0])
        return torch.Generator().manual_seed(seed)

    def _edge(self, number: int) -> int:
        return self.pictures * number // self.batches


class DeviceLoader:
    """Batches of pictures on a device, loaded by processes that start once and stay.

    Args:
        pictures: with their transform.
        batches: an iterable with a length over lists of keys of `pictures`; asked again for each iteration.
        workers: loading processes; 0 loads in this one.
        device: where the batches go.
    """

    def __init__(self, pictures: Pictures, batches: Any, workers: int, device: torch.device) -> None:
        self.pictures, self.batches = pictures, batches
        self._device = device
        self._loader: DataLoader[Any] = DataLoader(
            pictures,
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            worker_init_fn=_leave_stopping_to_parent,
            generator=torch.Generator(),
            multiprocessing_context=multiprocessing.get_context("fork") if workers and _forks() else None,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images (B, 3, S, S) uint8 and labels (B, T) int64.

        Raises:
            SnowError: a picture cannot be read.
        """
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
                batches = iter(self._loader)
            for images, labels in batches:
                yield images.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)
        except SnowError as error:
            marker = f"{type(error).__module__}.{type(error).__qualname__}: "  # torch puts a traceback before it
            raise SnowError(str(error).rpartition(marker)[2]) from None


def in_turn(indices: Sequence[int], batch_size: int, rank: int = 0, processes: int = 1) -> list[list[int]]:
    """One process's share of some pictures, in order, in batches of at most `batch_size`."""
    mine = list(indices[rank::processes])
    return [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]


def _leave_stopping_to_parent(_worker: int) -> None:
    """In a loading process: signals to the whole group or job are for the training process, which finishes its step.

    Only the training process itself can end this one. (Torch has already set one thread.)
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()


def _end_when_told(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _forks() -> bool:
    return sys.platform == "linux"
