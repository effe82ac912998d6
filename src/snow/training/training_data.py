"""The pictures of a run: training, held-out and test pictures, and the batches that they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from snow.data import Pictures, eval_transform, train_transform
from snow.data.task import strata_of
from snow.errors import SnowError
from snow.training.guard import hold_out
from snow.training.job import TrainingJob
from snow.training.loader import DeviceLoader, EpochSampler, sequential_batches
from snow.training.process_group import ProcessGroup
from snow.training.task_labels import task_labels


class TrainingData:
    """This process's share of a data set.

    Attributes:
        labels: learner -> which of the labels (n, T) are its own, and their loss.
        learned_labels: the same for learning. A learner that starts by evidence has a column of its own, without the
            labels of the pictures that judge it, see `snow.training.guard`.
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
        labels = task_labels(job.learners, dataset.tasks, device)
        unaugmented = eval_transform(preprocessing)
        self.train, self._held_out = dataset.train.with_transform(unaugmented), None
        self._all_items = dataset.train.items
        self._test = dataset.test.with_transform(unaugmented)
        if recipe.validation:
            strata = strata_of(dataset.tasks, self.train.labels)
            self.train, self._held_out = self.train.split(recipe.validation, recipe.seed, strata)
        for name, own in labels.items():
            self._require_labels(name, own.column)
        self.labels = {name: own.with_loss(recipe, self.train, device) for name, own in labels.items()}
        self.learned_labels = dict(self.labels)
        self._judged: dict[str, Tensor] = {}
        self._columns = self._learned_columns(job)
        weights = None
        if recipe.sampling == "balanced":
            weights = balanced_weights(strata_of(dataset.tasks, self.train.labels))
        self.sampler = EpochSampler(
            len(self.train), recipe.batch_size, recipe.seed, group.rank, group.count, recipe.views, weights
        )
        self._views_each = recipe.views or recipe.epochs
        self._training_views = len(self.train) * self._views_each
        self._judging = torch.stack(list(self._judged.values())).any(0).nonzero().flatten() if self._judged else None
        self.views = self._training_views + (0 if self._held_out is None else len(self._held_out))
        self.views += 0 if self._judging is None else len(self._judging)

    def _learned_columns(self, job: TrainingJob) -> Tensor:
        """Return the labels with a column more for each learner that some pictures judge: (n, T + …)."""
        columns, strata = [self.train.labels], strata_of(job.dataset.tasks, self.train.labels)
        for name, method in job.learners.items():
            own = self.labels[name]
            if method.starts_by_evidence and own.kind.likelihood is not None and job.guards_starts:
                column = self.train.labels[:, own.column]
                judged = hold_out(strata[:, own.column], self._recipe.seed)
                if judged.any():
                    self._judged[name] = judged
                    self.learned_labels[name] = replace(own, column=sum(part.shape[1] for part in columns))
                    columns.append(column.masked_fill(judged, -1)[:, None])
        return torch.cat(columns, 1)

    def learned(self, learner: str, index: Tensor) -> Tensor | None:
        """Return which of some training pictures a learner learns: (k,) -> (k,) of bool; None: all."""
        return ~self._judged[learner][index] if learner in self._judged else None

    def judging(self) -> DeviceLoader | None:
        """Load the training pictures that judge learners, without augmentation; their labels are (n, T + …)."""
        if self._judging is None:
            return None
        pictures = Pictures(self.train.items, self._columns, self.train.transform).subset(self._judging.tolist())
        return self._loader(pictures, sequential_batches(range(len(pictures)), self._recipe.batch_size))

    def judging_row(self, key: int) -> int:
        """Return the row in the cache of a picture that judges; these follow all others."""
        return self.views - len(self._judging if self._judging is not None else ()) + key

    def judged_by(self, learner: str) -> tuple[Tensor, Tensor] | None:
        """Return which of the judging pictures judge a learner, (k,) of indices, and their labels; None: none do.

        The labels are numbers of classes, (k,), or targets in the units of outputs, (k, W).
        """
        if learner not in self._judged or self._judging is None:
            return None
        index = self._judged[learner][self._judging].nonzero().flatten()
        return index, self.labels[learner].standardised(self.train.labels[self._judging[index]]).cpu()

    def judges_of(self, learner: str) -> Tensor:
        """Return the pictures that judge a learner, in the order of `judged_by`: (k,), among all of the data set."""
        place = {id(item): number for number, item in enumerate(self._all_items)}
        chosen = self._judged[learner].nonzero().flatten().tolist()
        return torch.tensor([place[id(self.train.items[index])] for index in chosen])

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
        pictures = Pictures(self.train.items, self._columns, self._augment)
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
        labelled = self._columns >= 0
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


def balanced_weights(strata: Tensor) -> Tensor:
    """Weigh pictures so that the strata of each task are drawn alike: (n, T), -1 for none -> (n,) of double.

    A picture weighs the mean over the tasks that it has labels for, of 1 / pictures of its stratum.
    """
    weights, labelled = torch.zeros(len(strata), dtype=torch.float64), torch.zeros(len(strata))
    for column in strata.unbind(1):
        known = column >= 0
        counts = column[known].bincount()
        weights[known] += 1 / (counts[column[known]].double() * int((counts > 0).sum()))
        labelled += known
    return weights / labelled.clamp(min=1)
