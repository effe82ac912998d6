"""Train the trials of a sweep. Those whose recipes agree share one pass of the source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from snow.data import Dataset
from snow.distributed.ray_map import Workers, ray_map
from snow.errors import DivergedError
from snow.experiments.sweep.options import OptionValues, Sweep, TrialConfig, label
from snow.experiments.sweep.study import Study, Trial
from snow.kinds import Metrics
from snow.methods import Method
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.fit import fit
from snow.training.listeners import Listener

T = TypeVar("T")

StageListeners = Callable[[str], Sequence[Listener]]
"""Makes the listeners of a training run from its name."""


@dataclass(frozen=True)
class TrialGroup:
    """Trials that share a source pass, and all it takes to train them, here or on another machine.

    Attributes:
        dataset: without the test images: they are never used.
        recipe: of all trials, apart from the learning rate.
        runtime: of the training run.
        trials: setting and seed of each trial by name.
        path: of the study. An interrupted run leaves its checkpoint beside it, and continues from there.
    """

    source: Source
    dataset: Dataset
    base: TrialConfig
    recipe: Recipe
    runtime: Runtime
    trials: Mapping[str, tuple[OptionValues, int]]
    path: Path | None

    def checkpoint(self, names: Sequence[str]) -> Path | None:
        """Name the checkpoint of some of the trials."""
        if self.path is None:
            return None
        digest = hashlib.sha256(json.dumps([self.recipe.to_dict(), names]).encode()).hexdigest()[:12]
        return self.path.with_name(f".{self.path.stem}.{digest}.checkpoint.pt")


def run_group(group: TrialGroup, listeners: StageListeners = lambda _: ()) -> Iterator[dict[str, dict[str, Any]]]:
    """Train a group and yield results by trial name.

    A trial that diverges is yielded alone, and the others start over without it.
    """
    left = dict(group.trials)
    while left:
        checkpoint = group.checkpoint(list(left))
        try:
            fitted = fit(
                group.source,
                {name: _learner(group, *trial) for name, trial in left.items()},
                group.dataset,
                group.recipe,
                runtime=group.runtime,
                listeners=listeners(f"{', '.join(left)}: seed {group.recipe.seed}"),
                checkpoint=checkpoint,
                resume=checkpoint is not None,
            )
            results = {name: _result(method, fitted.metrics[name]) for name, method in fitted.learners.items()}
        except DivergedError as error:
            results = {error.learner: {"diverged": str(error)}}
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        yield results
        left = {name: trial for name, trial in left.items() if name not in results}


def group_results(group: TrialGroup) -> dict[str, dict[str, Any]]:
    """Train a group and return the results of all its trials by name."""
    return {name: result for results in run_group(group) for name, result in results.items()}


class TrialRunner:
    """Trains trials and saves their results in a study.

    Args:
        path: of the study. An interrupted run leaves its checkpoint beside it, and continues from there.
        listeners: makes the listeners of a training run in this process from its name.
        workers: trains each group on a Ray worker; None trains one group after another in this process.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: Study,
        path: Path | None,
        listeners: StageListeners,
        workers: Workers | None = None,
    ) -> None:
        self._sweep, self._study, self._listeners, self._workers = sweep, study, listeners, workers
        self._path = None if path is None else path.resolve()
        self._dataset = sweep.dataset.held_out(sweep.held_out, sweep.base.recipe.seed)

    def train_settings(self, settings: Sequence[tuple[OptionValues, int]]) -> None:
        """Train settings with their seeds, group by group, so that an interruption leaves few unfinished trials."""
        groups = [group for _, group in self._groups(settings, lambda setting_and_seed: setting_and_seed)]
        if self._workers is not None:
            groups = [list(settings)] if groups else []
        for group in groups:
            self.train([self._study.begin(setting, seed) for setting, seed in group])

    def train(self, trials: Sequence[Trial]) -> None:
        """Train trials that were started in the study, and finish them there."""
        groups: dict[str, TrialGroup] = {}
        started: dict[str, dict[str, list[Trial]]] = {}
        for recipe, members in self._groups(trials, lambda trial: (trial.setting, trial.seed)):
            by_name: dict[str, list[Trial]] = {}
            for trial in members:  # a search may suggest the same setting twice
                by_name.setdefault(label(self._sweep.changed(trial.setting)), []).append(trial)
            stage = f"{len(groups) + 1}: {', '.join(by_name)}: seed {recipe.seed}"
            settings = {name: (same[0].setting, same[0].seed) for name, same in by_name.items()}
            groups[stage] = TrialGroup(
                self._sweep.source,
                self._dataset,
                self._sweep.base,
                recipe,
                self._sweep.runtime,
                settings,
                self._path,
            )
            started[stage] = by_name

        def finish(stage: str, results: Mapping[str, dict[str, Any]]) -> None:
            for name, result in results.items():
                for trial in started[stage].pop(name):
                    self._study.finish(trial, result)

        if self._workers is not None:
            ray_map(group_results, groups, self._workers, finish)
            return
        for stage, group in groups.items():
            for results in run_group(group, self._listeners):
                finish(stage, results)

    def remove_checkpoints(self) -> None:
        """Remove checkpoints of interrupted runs that no trial continues."""
        if self._path is not None:
            for checkpoint in self._path.parent.glob(f".{self._path.stem}.*.checkpoint.pt"):
                checkpoint.unlink()

    def _groups(
        self, items: Sequence[T], setting_and_seed: Callable[[T], tuple[OptionValues, int]]
    ) -> Iterator[tuple[Recipe, list[T]]]:
        """Group items whose recipes agree apart from the learning rate, at most `Sweep.together` at a time."""
        groups: dict[Recipe, list[T]] = {}
        for item in items:
            setting, seed = setting_and_seed(item)
            recipe = replace(self._sweep.base.with_values(setting).recipe, lr=self._sweep.base.recipe.lr, seed=seed)
            groups.setdefault(recipe, []).append(item)
        for recipe, group in groups.items():
            for start in range(0, len(group), self._sweep.together):
                yield recipe, group[start : start + self._sweep.together]


def _learner(group: TrialGroup, setting: OptionValues, seed: int) -> Method:
    config = group.base.with_values(setting)
    classes = group.dataset.tasks[0].kind.outputs
    return config.variant.start(group.source, classes, seed, config.recipe.lr / group.recipe.lr)


def _result(method: Method, metrics: Metrics) -> dict[str, Any]:
    figures = metrics.to_dict()
    score = {} if "top1" in figures and metrics.score == figures["top1"] else {"score": metrics.score}
    return {**figures, **score, "learned_parameters": method.learned_parameters}
