"""Pictures from disk to device."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from snow.data.pictures import Pictures
from snow.errors import SnowError


class Loading:
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
