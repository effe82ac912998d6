"""The order and loading of pictures. The order is a pure function of seed and epoch, so a run resumes at any step."""

from __future__ import annotations

import multiprocessing
import os
import shutil
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
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from snow.data import Pictures
from snow.errors import NoSpaceError, SnowError

SHARED_MEMORY = "/dev/shm"
"""Where Linux keeps what processes share. A container has 64 MB of it by default."""

NO_SHARED_MEMORY = ("shared memory", "Bus error", "unable to resize file", "unable to mmap", "unable to write to file")
TOO_MANY_FILES = ("Too many open files", "items of ancdata")
"""In messages of torch when loading processes cannot pass a batch on."""

PREFETCHED = 2
"""Batches that a loading process makes ahead, the default of `DataLoader`."""


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Yields one process's batches of an epoch: lists of (index of a picture, seed of its augmentation).

    Each epoch is a new permutation, cut into batches whose sizes differ by one at most, so that no batch is tiny and
    no picture is left out. Process r of P loads every P-th picture of each batch, starting with the r-th: order,
    batches and augmentation are the same for any number of processes.

    Args:
        pictures: their number.
        batch_size: largest number of pictures in a batch, over all processes.
        seed: of the permutations and augmentations.
        rank: of this process, out of `processes`.
        views: number of augmented views of a picture, used in turn from epoch to epoch; None: a new one each epoch.
        weights: (pictures,); then an epoch draws its pictures with these, some several times and others not at all.

    Raises:
        SnowError: a process would get fewer than two pictures of some batch (batch normalisation needs two).
    """

    def __init__(
        self,
        pictures: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        views: int | None = None,
        weights: Tensor | None = None,
    ) -> None:
        self.pictures = pictures
        self.batches = -(-pictures // batch_size)
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.views = views
        self.weights = weights
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
        """Let the next iteration begin with this batch of this epoch, both counted from 0."""
        generator = self._generator(epoch)
        self._indices = torch.randperm(self.pictures, generator=generator)
        if self.weights is not None:
            self._indices = torch.multinomial(self.weights, self.pictures, replacement=True, generator=generator)
        self.view = epoch
        if self.views is not None:
            self.view = epoch % self.views
            generator = self._generator(self.view, self.views)
        self._seeds = torch.randint(2**62, (self.pictures,), generator=generator)
        if self.views is not None:
            self._seeds = self._seeds[self._indices]  # a view belongs to a picture, not to its turn
        self._first = batch

    def batch(self, number: int) -> Tensor:
        """Return the indices of all pictures in a batch of this epoch, over all processes: (B,)."""
        return self._indices[self._edge(number) : self._edge(number + 1)]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for number in range(self._first, self.batches):
            share = slice(self._edge(number) + self.rank, self._edge(number + 1), self.processes)
            yield list(zip(self._indices[share].tolist(), self._seeds[share].tolist(), strict=True))

    def __len__(self) -> int:
        return self.batches - self._first

    @property
    def largest(self) -> int:
        """Number of pictures in this process's largest batch."""
        return -(-self.pictures // (self.batches * self.processes))

    def _generator(self, *numbers: int) -> torch.Generator:
        seed = int(np.random.SeedSequence((self.seed, *numbers)).generate_state(1, np.uint64)[0])
        return torch.Generator().manual_seed(seed)

    def _edge(self, number: int) -> int:
        return self.pictures * number // self.batches


class DeviceLoader:
    """Loads batches of pictures onto a device, in processes that start once and stay.

    Batches come from these processes through shared memory, or through a pipe where that is too small.

    Args:
        pictures: with their transform.
        batches: an iterable with a length over lists of keys of `pictures`, iterated anew for each pass.
        workers: loading processes; 0 loads in this one.
        device: of the batches.
    """

    def __init__(self, pictures: Pictures, batches: Any, workers: int, device: torch.device) -> None:
        self.pictures, self.batches = pictures, batches
        self._device = device
        self._loader: DataLoader[Any] = DataLoader(
            pictures,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_collate_arrays if workers and _exceeds_shared_memory(pictures, batches, workers) else None,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            worker_init_fn=_ignore_stop_signals,
            generator=torch.Generator(),
            multiprocessing_context=multiprocessing.get_context("fork") if workers and _forks() else None,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, 3, S, S) uint8 and labels (B, T) int64.

        A pass that does not reach its end also ends the loading processes.

        Raises:
            SnowError: a picture cannot be read, or shared memory is full.
        """
        is_whole = False
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
                batches = iter(self._loader)
            for images, labels in batches:
                images, labels = torch.as_tensor(images), torch.as_tensor(labels)
                yield images.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)
            is_whole = True
        except SnowError as error:
            marker = f"{type(error).__module__}.{type(error).__qualname__}: "  # torch puts a traceback before it
            raise SnowError(str(error).rpartition(marker)[2]) from None
        except RuntimeError as error:
            reason = str(error)
            if any(mark in reason for mark in TOO_MANY_FILES):
                raise NoSpaceError(
                    "this process may not open as many files as its loading processes need: load pictures with fewer "
                    "workers, or none, or raise the limit (ulimit -n)"
                ) from None
            if not any(mark in reason for mark in NO_SHARED_MEMORY):
                raise
            raise NoSpaceError(
                f"the shared memory of this machine ({SHARED_MEMORY}) is full, or may not hold files as large: load "
                "pictures with fewer workers, or none, or give a container more of it (docker run --shm-size)"
            ) from None
        finally:
            if not is_whole:
                self._end()

    def _end(self) -> None:
        """End the loading processes. Left to the garbage collector, torch may wait five seconds for each of them."""
        processes, self._loader._iterator = self._loader._iterator, None
        if isinstance(processes, _MultiProcessingDataLoaderIter):
            processes._shutdown_workers()


def _exceeds_shared_memory(pictures: Pictures, batches: Any, workers: int) -> bool:
    """Whether the batches that wait for the training process may fill half of the free shared memory."""
    largest = batches.largest if isinstance(batches, EpochSampler) else max(map(len, batches), default=0)
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
        picture = pictures[0, 0][0].nbytes if largest else 0
    except (OSError, SnowError):  # another system; a picture that is refused when its turn comes
        return False
    return 2 * (workers * PREFETCHED + 1) * largest * picture > free


def _collate_arrays(samples: list[tuple[Tensor, Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    """Make a batch of NumPy arrays, which a loading process sends through a pipe."""
    images, labels = zip(*samples, strict=True)
    return torch.stack(images).numpy(), torch.stack(labels).numpy()


def sequential_batches(indices: Sequence[int], batch_size: int, rank: int = 0, processes: int = 1) -> list[list[int]]:
    """Cut one process's share of the pictures, in order, into batches of at most `batch_size`."""
    share = list(indices[rank::processes])
    return [share[start : start + batch_size] for start in range(0, len(share), batch_size)]


def _ignore_stop_signals(_worker: int) -> None:
    """In a loading process, ignore SIGINT and SIGTERM that are not from the training process.

    A signal to the whole process group or job is handled by the training process, which finishes its step and needs
    its pictures for that. (Torch has already set one thread.)
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_parents_signal, args=(os.getppid(),), daemon=True).start()


def _exit_on_parents_signal(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _forks() -> bool:
    return sys.platform == "linux"
