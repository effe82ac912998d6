"""One pass over training pictures for what a task keeps of them, see `snow.inference.familiarity`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from snow.data import Pictures, eval_transform
from snow.data.task import strata_of
from snow.inference.appearance import FIGURES, appearance
from snow.inference.confidence import Confidence
from snow.inference.familiarity import MAX_PICTURES, Familiarity
from snow.source import Source
from snow.training.history import HeldOut
from snow.training.job import TrainingJob
from snow.training.loader import DeviceLoader, sequential_batches

BATCH = 64


class Passed(NamedTuple):
    """What a task keeps statistics of: final features (n, D) and figures of the appearance (n, A)."""

    final: Tensor
    appearance: Tensor


def fit_familiarity(job: TrainingJob, held_out: Mapping[str, HeldOut]) -> dict[str, Familiarity]:
    """Fit the statistics of each task of a job that reads the source, on up to `MAX_PICTURES` training pictures.

    Args:
        held_out: answers for training pictures that a task has not learned, by its name; they tell how sure it is of
            such pictures.
    """
    readers = [name for name, method in job.learners.items() if method.uses_source]
    columns = {task.name: column for column, task in enumerate(job.dataset.tasks)}
    if not any(name in columns for name in readers):
        return {}
    labels = strata_of(job.dataset.tasks, job.dataset.train.labels)
    generator = torch.Generator().manual_seed(job.recipe.seed)
    chosen = torch.randperm(len(labels), generator=generator)[:MAX_PICTURES].sort().values
    passed = pass_pictures(job.source, job.dataset.train.subset(chosen.tolist()), job.runtime.loading_workers())
    fitted = {}
    for name in readers:
        if name in columns:
            cluster = labels[chosen, columns[name]]
            familiarity = Familiarity.fit(passed.final, cluster, job.recipe.seed, passed.appearance)
            if familiarity is not None and name in held_out:
                confidence = _fit_confidence(familiarity, passed.final, cluster, chosen, held_out[name])
                familiarity = replace(familiarity, confidence=confidence)
            if familiarity is not None:
                fitted[name] = familiarity
    return fitted


def _fit_confidence(
    familiarity: Familiarity, final: Tensor, cluster: Tensor, chosen: Tensor, held_out: HeldOut
) -> Confidence | None:
    """Fit how sure a task is of pictures that it has not learned, beside how familiar these are to it.

    Args:
        final: (n, D), of the chosen pictures.
        cluster: (n,), their classes; -1 for none.
        chosen: (n,), their numbers among all training pictures, ascending.
    """
    place = torch.searchsorted(chosen, held_out.index).clamp(max=len(chosen) - 1)
    is_chosen = chosen[place] == held_out.index
    place, logits, label = place[is_chosen], held_out.logits[is_chosen], held_out.label[is_chosen]
    others = cluster >= 0
    others[place] = False
    classes = cluster[others].unique()
    without = familiarity.fitted_to(final[others], cluster[others])
    familiar = without.known(final[place])
    strange = familiar.clone()
    for number, value in enumerate(classes.tolist() if len(classes) > 1 else []):
        own = label == value
        if own.any():
            left = [other for other in range(len(classes)) if other != number]
            strange[own] = without.selected(left).known(final[place[own]])
    return Confidence.fit(familiar, strange, logits, label)


@torch.no_grad()
def pass_pictures(source: Source, pictures: Pictures, workers: int = 0) -> Passed:
    """Pass pictures through a source, cropped as in evaluation: n pictures -> float32 tensors on the CPU."""
    device = next(source.buffers()).device
    cropped = pictures.with_transform(eval_transform(source.preprocessing))
    loader = DeviceLoader(cropped, sequential_batches(range(len(pictures)), BATCH), workers, device)
    final, looks = [torch.zeros(0, source.num_features)], [torch.zeros(0, FIGURES)]
    for images, _ in loader:
        final.append(source(images.contiguous(memory_format=torch.channels_last), frozenset()).final.float().cpu())
        looks.append(appearance(images))
    return Passed(torch.cat(final), torch.cat(looks))


def final_features(source: Source, pictures: Pictures, workers: int = 0) -> Tensor:
    """Compute the final features of pictures, cropped as in evaluation: n pictures -> (n, D) float32 on the CPU."""
    return pass_pictures(source, pictures, workers).final
