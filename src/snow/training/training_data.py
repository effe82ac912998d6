"""The pictures of a run: what is learned, what is held out, what is tested, and in which batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from snow.data import Dataset, Pictures, eval_transform, train_transform
from snow.errors import SnowError
from snow.source import Preprocessing
from snow.training.evaluate import label_columns
from snow.training.loader import DeviceLoader, EpochSampler, in_turn
from snow.training.process_group import ProcessGroup
from snow.training.recipe import Recipe


class TrainingData:
    """This process's share of a data set.

    Attributes:
        columns: learner -> column of its task in the labels (n, T).
        train: training pictures with the transform of evaluation, less those that are held out.
        order: of the training pictures; starts the epochs.
        views: of training pictures, and pictures that are held out: how many different ones all epochs ask for.

    Raises:
        SnowError: no task for a learner, an unknown augmentation, too few pictures.
    """

    def __init__(
        self,
        dataset: Dataset,
        learners: Iterable[str],
        preprocessing: Preprocessing,
        recipe: Recipe,
        peers: ProcessGroup,
        device: torch.device,
        views: int | None = None,
    ) -> None:
        self._recipe, self._peers, self._device = recipe, peers, device
        self._augment = train_transform(preprocessing, recipe.augment)
        self.columns = label_columns(learners, len(dataset.tasks), [task.name for task in dataset.tasks])
        shown = eval_transform(preprocessing)
        self.train, self._held_out = dataset.train.with_transform(shown), None
        self._test = dataset.test.with_transform(shown)
        if recipe.validation:
            self.train, self._held_out = self.train.split(recipe.validation, recipe.seed)
        for name, column in self.columns.items():
            self._require_labels(name, column)
        self.order = EpochSampler(len(self.train), recipe.batch_size, recipe.seed, peers.rank, peers.count, views)
        self._views_each = views or recipe.epochs
        self._training_views = len(self.train) * self._views_each
        self.views = self._training_views + (0 if self._held_out is None else len(self._held_out))

    def training(self) -> DeviceLoader:
        """What `order` says, augmented."""
        return self._loading(self.train.with_transform(self._augment), self.order)

    def training_row(self, key: tuple[int, int]) -> int:
        """The number of the view of a training picture that is asked for by this key in this epoch."""
        return key[0] * self._views_each + self.order.view

    def validation_row(self, key: int) -> int:
        """The number of a picture that is held out, after those of all views."""
        return self._training_views + key

    def validation(self) -> DeviceLoader | None:
        """What is held out."""
        return None if self._held_out is None else self._measured(self._held_out)

    def test(self) -> DeviceLoader:
        return self._measured(self._test)

    def start(self, epoch: int, batch: int) -> list[list[int]]:
        """`training` goes on from here. Returns how many labels of each task each batch of the epoch has in all."""
        self.order.start(epoch, batch)
        labelled = self.train.labels >= 0
        return [labelled[self.order.batch(number)].sum(0).tolist() for number in range(self.order.batches)]

    def _measured(self, pictures: Pictures) -> DeviceLoader:
        size = max(1, self._recipe.batch_size // self._peers.count)
        return self._loading(pictures, in_turn(range(len(pictures)), size, self._peers.rank, self._peers.count))

    def _loading(self, pictures: Pictures, batches: EpochSampler | list[list[int]]) -> DeviceLoader:
        return DeviceLoader(pictures, batches, self._recipe.loading_workers(self._peers.count), self._device)

    def _require_labels(self, learner: str, column: int) -> None:
        if not (self.train.labels[:, column] >= 0).any():
            raise SnowError(f"no training picture has a label for {learner}")
        if self._held_out is not None and not (self._held_out.labels[:, column] >= 0).any():
            raise SnowError(
                f"validation {self._recipe.validation:g} holds out no picture with a label for {learner}: "
                "use a larger fraction, or 0"
            )
