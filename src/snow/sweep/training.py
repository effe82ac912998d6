"""The training of trials: those whose recipes agree learn side by side on one pass of the source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from snow.methods import Method
from snow.sweep.point import Setting, label
from snow.sweep.study import Study, Trial
from snow.training.divergence import DivergedError
from snow.training.evaluate import Metrics
from snow.training.listeners.listener import Listener
from snow.training.loop import fit
from snow.training.recipe import Recipe

if TYPE_CHECKING:
    from snow.sweep.sweep import Sweep

Item = TypeVar("Item")


class Training:
    """Trains the trials of a study.

    Args:
        path: of the study; a run that is stopped leaves its checkpoint beside it and goes on from there.
        listeners: for a stage with this name.
    """

    def __init__(
        self, work: Sweep, study: Study, path: Path | None, listeners: Callable[[str], Sequence[Listener]]
    ) -> None:
        self._work, self._study, self._path, self._listeners = work, study, path, listeners
        self._dataset = work.dataset.held_out(work.held_out, work.around.recipe.seed)

    def begin(self, wanted: Sequence[tuple[Setting, int]]) -> None:
        """Trains settings with their seeds. Only what is on the pass now is a trial that a stop would leave open."""
        for _, group in self._passes(wanted, lambda one: one):
            self.train([self._study.begin(setting, seed) for setting, seed in group])

    def train(self, trials: Sequence[Trial]) -> None:
        """Trains what was begun; a trial that diverges is told, and the others of its pass start over without it."""
        for recipe, group in self._passes(trials, lambda trial: (trial.setting, trial.seed)):
            named: dict[str, list[Trial]] = {}
            for trial in group:  # a search may suggest the same twice
                named.setdefault(label(self._work.changed(trial.setting)), []).append(trial)
            while named:
                try:
                    results = self._fit(recipe, {name: trials[0] for name, trials in named.items()})
                except DivergedError as error:
                    results = {error.learner: {"diverged": str(error)}}
                for name, result in results.items():
                    for trial in named.pop(name):
                        self._study.finish(trial, result)

    def _passes(
        self, items: Sequence[Item], asked: Callable[[Item], tuple[Setting, int]]
    ) -> Iterator[tuple[Recipe, list[Item]]]:
        """Those with one recipe but for the learning rate, at most `together` at a time."""
        groups: dict[Recipe, list[Item]] = {}
        for item in items:
            setting, seed = asked(item)
            recipe = replace(self._work.around.at(setting).recipe, lr=self._work.around.recipe.lr, seed=seed)
            groups.setdefault(recipe, []).append(item)
        for recipe, group in groups.items():
            for start in range(0, len(group), self._work.together):
                yield recipe, group[start : start + self._work.together]

    def _fit(self, recipe: Recipe, trials: dict[str, Trial]) -> dict[str, dict[str, Any]]:
        """What was measured, by name."""
        learners = {name: self._learner(trial, recipe) for name, trial in trials.items()}
        checkpoint = self._checkpoint(recipe, list(trials))
        stage = f"{', '.join(trials)}: seed {recipe.seed}"
        try:
            fitted = fit(
                self._work.source,
                learners,
                self._dataset,
                recipe,
                listeners=self._listeners(stage),
                checkpoint=checkpoint,
                resume=checkpoint is not None,
            )
        except DivergedError:
            self._forget(checkpoint)
            raise
        self._forget(checkpoint)
        return {name: _result(method, fitted.metrics[name]) for name, method in fitted.learners.items()}

    def _learner(self, trial: Trial, recipe: Recipe) -> Method:
        point = self._work.around.at(trial.setting)
        classes = len(self._work.dataset.tasks[0].classes)
        return point.variant.start(self._work.source, classes, trial.seed, point.recipe.lr / recipe.lr)

    def _checkpoint(self, recipe: Recipe, names: Sequence[str]) -> Path | None:
        if self._path is None:
            return None
        digest = hashlib.sha256(json.dumps([recipe.to_dict(), names]).encode()).hexdigest()[:12]
        return self._path.with_name(f".{self._path.stem}.{digest}.checkpoint.pt")

    def tidy(self) -> None:
        """Removes the checkpoints of runs that were stopped and are not wanted any more."""
        if self._path is not None:
            for checkpoint in self._path.parent.glob(f".{self._path.stem}.*.checkpoint.pt"):
                checkpoint.unlink()

    def _forget(self, checkpoint: Path | None) -> None:
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)


def _result(method: Method, metrics: Metrics) -> dict[str, Any]:
    return {**metrics.to_dict(), "learned_parameters": method.learned_parameters}
