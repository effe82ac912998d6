"""The training of trials: those whose recipes agree learn side by side on one pass of the source."""

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
from snow.experiments.sweep.options import Point, Setting, Sweep, label
from snow.experiments.sweep.study import Study, Trial
from snow.methods import Method
from snow.source import Source
from snow.training import Recipe, Runtime
from snow.training.evaluate import Metrics
from snow.training.fit import fit
from snow.training.listeners import Listener

Item = TypeVar("Item")


@dataclass(frozen=True)
class Pass:
    """Trials that learn side by side, and all that it takes to measure them, here or on another machine.

    Attributes:
        dataset: without the pictures that the sweep never sees.
        trials: setting and seed of each, by name.
        path: of the study; a run that is stopped or lost leaves its checkpoint beside it and goes on from there.
    """

    source: Source
    dataset: Dataset
    around: Point
    recipe: Recipe
    runtime: Runtime
    trials: Mapping[str, tuple[Setting, int]]
    path: Path | None

    def checkpoint(self, names: Sequence[str]) -> Path | None:
        """Of those trials."""
        if self.path is None:
            return None
        digest = hashlib.sha256(json.dumps([self.recipe.to_dict(), names]).encode()).hexdigest()[:12]
        return self.path.with_name(f".{self.path.stem}.{digest}.checkpoint.pt")


def measuring(
    one: Pass, listeners: Callable[[str], Sequence[Listener]] = lambda _: ()
) -> Iterator[dict[str, dict[str, Any]]]:
    """What trials of a pass gave, by name: those that diverge one by one, and the others, which start over without."""
    left = dict(one.trials)
    while left:
        checkpoint = one.checkpoint(list(left))
        try:
            fitted = fit(
                one.source,
                {name: _learner(one, *trial) for name, trial in left.items()},
                one.dataset,
                one.recipe,
                runtime=one.runtime,
                listeners=listeners(f"{', '.join(left)}: seed {one.recipe.seed}"),
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


def measured(one: Pass) -> dict[str, dict[str, Any]]:
    """All that `measuring` gives."""
    return {name: result for results in measuring(one) for name, result in results.items()}


class Training:
    """Trains the trials of a study.

    Args:
        path: of the study; a run that is stopped leaves its checkpoint beside it and goes on from there.
        listeners: for a stage with this name, of what learns in this process.
        workers: of a Ray cluster, one for each pass; None: one pass after the other in this process.
    """

    def __init__(
        self,
        work: Sweep,
        study: Study,
        path: Path | None,
        listeners: Callable[[str], Sequence[Listener]],
        workers: Workers | None = None,
    ) -> None:
        self._work, self._study, self._listeners, self._workers = work, study, listeners, workers
        self._path = None if path is None else path.resolve()
        self._dataset = work.dataset.held_out(work.held_out, work.around.recipe.seed)

    def begin(self, wanted: Sequence[tuple[Setting, int]]) -> None:
        """Trains settings with their seeds. Only what is on a pass now is a trial that a stop would leave open."""
        groups = [group for _, group in self._passes(wanted, lambda one: one)]
        if self._workers is not None:
            groups = [list(wanted)] if groups else []
        for group in groups:
            self.train([self._study.begin(setting, seed) for setting, seed in group])

    def train(self, trials: Sequence[Trial]) -> None:
        """Trains what was begun; a trial that diverges is told, and the others of its pass start over without it."""
        passes: dict[str, Pass] = {}
        begun: dict[str, dict[str, list[Trial]]] = {}
        for recipe, group in self._passes(trials, lambda trial: (trial.setting, trial.seed)):
            named: dict[str, list[Trial]] = {}
            for trial in group:  # a search may suggest the same twice
                named.setdefault(label(self._work.changed(trial.setting)), []).append(trial)
            stage = f"{len(passes) + 1}: {', '.join(named)}: seed {recipe.seed}"
            asked = {name: (trials[0].setting, trials[0].seed) for name, trials in named.items()}
            work = self._work
            passes[stage] = Pass(work.source, self._dataset, work.around, recipe, work.runtime, asked, self._path)
            begun[stage] = named

        def tell(stage: str, results: Mapping[str, dict[str, Any]]) -> None:
            for name, result in results.items():
                for trial in begun[stage].pop(name):
                    self._study.finish(trial, result)

        if self._workers is not None:
            ray_map(measured, passes, self._workers, tell)
            return
        for stage, one in passes.items():
            for results in measuring(one, self._listeners):
                tell(stage, results)

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

    def tidy(self) -> None:
        """Removes the checkpoints of runs that were stopped and are not wanted any more."""
        if self._path is not None:
            for checkpoint in self._path.parent.glob(f".{self._path.stem}.*.checkpoint.pt"):
                checkpoint.unlink()


def _learner(one: Pass, setting: Setting, seed: int) -> Method:
    point = one.around.at(setting)
    classes = len(one.dataset.tasks[0].classes)
    return point.variant.start(one.source, classes, seed, point.recipe.lr / one.recipe.lr)


def _result(method: Method, metrics: Metrics) -> dict[str, Any]:
    return {**metrics.to_dict(), "learned_parameters": method.learned_parameters}
