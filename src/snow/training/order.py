"""Which pictures come when: a pure function of seed and epoch, so that a run can go on from any step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from snow.errors import SnowError


class Order(Sampler[list[tuple[int, int]]]):
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
