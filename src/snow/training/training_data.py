"""The pictures of a run: training, held-out and test pictures, and the batches that they come in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from snow.data import Pictures, eval_transform, train_transform
from snow.errors import SnowError
from snow.training.evaluate import label_columns
from snow.training.guard import hold_out
from snow.training.job import TrainingJob
from snow.training.loader import DeviceLoader, EpochSampler, sequential_batches
from snow.training.process_group import ProcessGroup


class TrainingData:
    """This process's share of a data set.

    Attributes:
        columns: learner -> column of its task in the labels (n, T).
        learning_columns: learner -> column of the labels that it learns. A learner that starts by evidence has one of
            its own, without the labels of the pictures that judge it, see `snow.training.guard`.
        train: training pictures with the transform of evaluation, without those that are held out.
        sampler: the batches of training pictures, epoch by epoch.
        views: number of different views of training pictures, over all epochs, and of held-out pictures.

    Raises:
        SnowError: no task for a learner, an unknown augmentation, too few pictures.
    """

    def __init__(self, job: TrainingJob, group: ProcessGroup, device: torch.device) -> None:
        recipe, dataset, preprocessing = job.recipe, job.dataset, job.source.preprocessing
        self._recipe, self._group, self._device = recipe, group, device
        self._workers = job.runtime.loading_workers(group.count)
        self._augment = train_transform(preprocessing, recipe.augment)
        self.columns = label_columns(job.learners, len(dataset.tasks), [task.name for task in dataset.tasks])
        unaugmented = eval_transform(preprocessing)
        self.train, self._held_out = dataset.train.with_transform(unaugmented), None
        self._test = dataset.test.with_transform(unaugmented)
        if recipe.validation:
            self.train, self._held_out = self.train.split(recipe.validation, recipe.seed)
        for name, column in self.columns.items():
            self._require_labels(name, column)
        self._judged: dict[str, Tensor] = {}
        self.learning_columns = dict(self.columns)
        self._labels = self._learned_labels(job)
        self.sampler = EpochSampler(
            len(self.train), recipe.batch_size, recipe.seed, group.rank, group.count, recipe.views
        )
        self._views_each = recipe.views or recipe.epochs
        self._training_views = len(self.train) * self._views_each
        self._judging = torch.stack(list(self._judged.values())).any(0).nonzero().flatten() if self._judged else None
        self.views = self._training_views + (0 if self._held_out is None else len(self._held_out))
        self.views += 0 if self._judging is None else len(self._judging)

    def _learned_labels(self, job: TrainingJob) -> Tensor:
        """Return the labels with a column more for each learner that some pictures judge."""
        labels = [self.train.labels]
        for name, method in job.learners.items():
            if method.starts_by_evidence and not job.warm_start:
                column = self.train.labels[:, self.columns[name]]
                judged = hold_out(column, self._recipe.seed)
                if judged.any():
                    self._judged[name] = judged
                    self.learning_columns[name] = sum(part.shape[1] for part in labels)
                    labels.append(column.masked_fill(judged, -1)[:, None])
        return torch.cat(labels, 1)

    def learned(self, learner: str, index: Tensor) -> Tensor | None:
        """Return which of some training pictures a learner learns: (k,) -> (k,) of bool; None: all."""
        return ~self._judged[learner][index] if learner in self._judged else None

    def judging(self) -> DeviceLoader | None:
        """Load the training pictures that judge learners, without augmentation; their labels are (n, T + …)."""
        if self._judging is None:
            return None
        pictures = Pictures(self.train.items, self._labels, self.train.transform).subset(self._judging.tolist())
        return self._loader(pictures, sequential_batches(range(len(pictures)), self._recipe.batch_size))

    def judging_row(self, key: int) -> int:
        """Return the row in the cache of a picture that judges; these follow all others."""
        return self.views - len(self._judging if self._judging is not None else ()) + key

    def judged_by(self, learner: str) -> tuple[Tensor, Tensor] | None:
        """Return which of the judging pictures judge a learner, (k,) of indices, and their labels (k,); None: none."""
        if learner not in self._judged or self._judging is None:
            return None
        index = self._judged[learner][self._judging].nonzero().flatten()
        return index, self.train.labels[self._judging[index], self.columns[learner]]

    def augmented(self) -> Pictures:
        """Return the training pictures with the augmentation of the run, by the keys of `view_keys`."""
        return self.train.with_transform(self._augment)

    def view_keys(self, batch: Sequence[int], view: int) -> list[tuple[int, int]]:
        """Return the keys of an augmented view of some pictures, which is none of those of the epochs."""
        seeds = np.random.SeedSequence((self._recipe.seed, view, len(self.train)))
        drawn = seeds.generate_state(len(self.train), np.uint32)
        return [(index, int(drawn[index])) for index in batch]

    def training(self) -> DeviceLoader:
        """Load the augmented training pictures of the epoch that `sampler` is in."""
        pictures = Pictures(self.train.items, self._labels, self._augment)
        return self._loader(pictures, self.sampler)

    def training_row(self, key: tuple[int, int]) -> int:
        """Return the row in the cache of the view of a training picture that this epoch uses."""
        return key[0] * self._views_each + self.sampler.view

    def validation_row(self, key: int) -> int:
        """Return the row in the cache of a held-out picture; these follow all training views."""
        return self._training_views + key

    def validation(self) -> DeviceLoader | None:
        """Load the held-out pictures, if there are any."""
        return None if self._held_out is None else self._sequential(self._held_out)

    def test(self) -> DeviceLoader:
        """Load the test pictures."""
        return self._sequential(self._test)

    def start(self, epoch: int, batch: int) -> list[list[int]]:
        """Move `sampler` to a batch of an epoch. Returns the number of labels of each task in each batch."""
        self.sampler.start(epoch, batch)
        labelled = self._labels >= 0
        return [labelled[self.sampler.batch(number)].sum(0).tolist() for number in range(self.sampler.batches)]

    def _sequential(self, pictures: Pictures) -> DeviceLoader:
        size = max(1, self._recipe.batch_size // self._group.count)
        return self._loader(
            pictures, sequential_batches(range(len(pictures)), size, self._group.rank, self._group.count)
        )

    def _loader(self, pictures: Pictures, batches: EpochSampler | list[list[int]]) -> DeviceLoader:
        return DeviceLoader(pictures, batches, self._workers, self._device)

    def _require_labels(self, learner: str, column: int) -> None:
        if not (self.train.labels[:, column] >= 0).any():
            raise SnowError(f"no training picture has a label for {learner}")
        if self._held_out is not None and not (self._held_out.labels[:, column] >= 0).any():
            raise SnowError(
                f"validation {self._recipe.validation:g} holds out no picture with a label for {learner}: "
                "use a larger fraction, or 0"
            )
