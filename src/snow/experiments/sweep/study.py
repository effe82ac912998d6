"""The trials of a sweep in an Optuna study, in memory or in a file that a later call continues."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snow.errors import SnowError
from snow.experiments.results.record import same_setting
from snow.experiments.sweep.options import Option, OptionValues

if TYPE_CHECKING:
    from collections.abc import Generator

    import optuna


IDENTITY, SEED, RESULT, SEARCHED = "identity", "seed", "result", "searched"


@dataclass(frozen=True)
class Trial:
    """One setting with one seed, before or after training.

    Attributes:
        setting: a value for each swept option.
        searched: the setting was suggested by the search.
        result: metrics as JSON values, or `{"diverged": MESSAGE}`; empty before training.
        handle: Optuna's trial, before training.
    """

    setting: OptionValues
    seed: int
    searched: bool
    result: dict[str, Any]
    handle: optuna.Trial | None = None


class Study:
    """The trials so far, and what to try next.

    One process at a time uses a file. Unfinished trials in it were interrupted, and are marked as failed.

    Args:
        path: SQLite file; None keeps the study in memory.
        identity: JSON values that must agree for a file to be continued.
        seed: of the search.

    Raises:
        SnowError: Optuna is not installed, the file cannot be read or written, or it holds another sweep.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any], options: Sequence[Option], seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise SnowError("sweeps need Optuna: pip install 'snow-cnn[sweep]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._states, self._path = optuna, optuna.trial.TrialState, path
        self._distributions = {option.name: self._distribution(option) for option in options}
        with self._as_snow_error():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._study = optuna.create_study(
                storage=None if path is None else f"sqlite:///{path}",
                study_name="sweep",
                direction="maximize",
                load_if_exists=True,
            )
            # a continued search must not draw the numbers of its first part again
            self._study.sampler = optuna.samplers.TPESampler(seed=seed + len(self._study.trials))
            saved = self._study.user_attrs.get(IDENTITY)
            if saved is None:
                self._study.set_user_attr(IDENTITY, dict(identity))
        current = json.loads(json.dumps(dict(identity)))
        differing = [key for key, value in current.items() if saved and not same_setting(key, saved.get(key), value)]
        if differing:
            raise SnowError(f"{path} holds another sweep: its {', '.join(differing)} differ; choose another file")
        self._fail_unfinished()

    def trials(self) -> list[Trial]:
        """List the finished trials in the order in which they were started."""
        done = [trial for trial in self._study.trials if RESULT in trial.user_attrs]
        return [
            Trial(trial.params, trial.user_attrs[SEED], trial.user_attrs[SEARCHED], trial.user_attrs[RESULT])
            for trial in done
        ]

    def begin(self, setting: OptionValues, seed: int) -> Trial:
        """Start a trial of a setting, which has a value for every option."""
        with self._as_snow_error():
            self._study.enqueue_trial(dict(setting), {SEED: seed, SEARCHED: False})
            return self._ask(seed, searched=False)

    def suggest(self, seed: int) -> Trial:
        """Start a trial of the setting that the search suggests (tree-structured Parzen estimator)."""
        with self._as_snow_error():
            return self._ask(seed, searched=True)

    def finish(self, trial: Trial, result: dict[str, Any]) -> None:
        """Save the result of a trial: metrics with `score` or `top1`, or `diverged`."""
        assert trial.handle is not None
        score = result.get("score", result.get("top1"))
        with self._as_snow_error():
            trial.handle.set_user_attr(RESULT, result)
            self._study.tell(trial.handle, score, self._states.FAIL if score is None else None)

    def _ask(self, seed: int, searched: bool) -> Trial:
        handle = self._study.ask(self._distributions)
        if searched:
            handle.set_user_attr(SEED, seed)
            handle.set_user_attr(SEARCHED, True)
        return Trial(dict(handle.params), seed, searched, {}, handle)

    def _fail_unfinished(self) -> None:
        with self._as_snow_error():
            while any(trial.state == self._states.WAITING for trial in self._study.trials):
                self._study.ask()
            for trial in self._study.trials:
                if trial.state == self._states.RUNNING:
                    self._study.tell(trial.number, state=self._states.FAIL)

    def _distribution(self, option: Option) -> optuna.distributions.BaseDistribution:
        values: list[Any] = list(option.values)
        if not option.is_numeric:
            return self._optuna.distributions.CategoricalDistribution(values)
        low, high = min(values), max(values)
        if all(isinstance(value, int) for value in values):
            return self._optuna.distributions.IntDistribution(low, high, log=low > 0)
        return self._optuna.distributions.FloatDistribution(low, high, log=low > 0)

    @contextmanager
    def _as_snow_error(self) -> Generator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        failures = (SQLAlchemyError, self._optuna.exceptions.OptunaError, OSError, ValueError)
        try:
            yield
        except failures as error:
            reason = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
            raise SnowError(f"{self._path or 'the study'} cannot be used: {reason}") from error
