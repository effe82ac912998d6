"""The trials of a sweep, kept by Optuna: in memory, or in a file that a later call goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snow.errors import SnowError
from snow.experiments.results.record import same_setting
from snow.experiments.sweep.options import Option, Setting

if TYPE_CHECKING:
    from collections.abc import Generator

    import optuna


IDENTITY, SEED, RESULT, SEARCHED = "identity", "seed", "result", "searched"


@dataclass(frozen=True)
class Trial:
    """A setting that is to be trained, or was.

    Attributes:
        setting: a value for each option that was swept over.
        seed: of the run.
        searched: the setting was suggested by the search.
        result: what was measured, as JSON values; `{"diverged": MESSAGE}` if it could not be.
        handle: Optuna's, of one that is to be trained.
    """

    setting: Setting
    seed: int
    searched: bool
    result: dict[str, Any]
    handle: optuna.Trial | None = None


class Study:
    """What has been tried around a point, and what to try next.

    One process at a time uses a file: trials that it finds unfinished were stopped, and are given up.

    Args:
        path: of an SQLite file; None keeps nothing.
        identity: JSON values that must be the same for a file to be gone on from.
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
        with self._one_line():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._study = optuna.create_study(
                storage=None if path is None else f"sqlite:///{path}",
                study_name="sweep",
                direction="maximize",
                load_if_exists=True,
            )
            # not the numbers again that a part of the search before has drawn
            drawn = seed + len(self._study.trials)
            self._study.sampler = optuna.samplers.TPESampler(seed=drawn)
            kept = self._study.user_attrs.get(IDENTITY)
            if kept is None:
                self._study.set_user_attr(IDENTITY, dict(identity))
        now = json.loads(json.dumps(dict(identity)))
        differing = [key for key, value in now.items() if kept and not same_setting(key, kept.get(key), value)]
        if differing:
            raise SnowError(f"{path} holds another sweep: its {', '.join(differing)} differ; choose another file")
        self._give_up_unfinished()

    def trials(self) -> list[Trial]:
        """Those that are done, in the order in which they were begun."""
        done = [trial for trial in self._study.trials if RESULT in trial.user_attrs]
        return [
            Trial(trial.params, trial.user_attrs[SEED], trial.user_attrs[SEARCHED], trial.user_attrs[RESULT])
            for trial in done
        ]

    def begin(self, setting: Setting, seed: int) -> Trial:
        """A trial of this setting, which has a value for each option."""
        with self._one_line():
            self._study.enqueue_trial(dict(setting), {SEED: seed, SEARCHED: False})
            return self._asked(seed, searched=False)

    def suggest(self, seed: int) -> Trial:
        """A trial of what looks best after those before (tree-structured Parzen estimator)."""
        with self._one_line():
            return self._asked(seed, searched=True)

    def finish(self, trial: Trial, result: dict[str, Any]) -> None:
        """Keeps what was measured, `top1` and more, or why nothing could be."""
        assert trial.handle is not None
        accuracy = result.get("top1")
        with self._one_line():
            trial.handle.set_user_attr(RESULT, result)
            self._study.tell(trial.handle, accuracy, self._states.FAIL if accuracy is None else None)

    def _asked(self, seed: int, searched: bool) -> Trial:
        handle = self._study.ask(self._distributions)
        if searched:
            handle.set_user_attr(SEED, seed)
            handle.set_user_attr(SEARCHED, True)
        return Trial(dict(handle.params), seed, searched, {}, handle)

    def _give_up_unfinished(self) -> None:
        with self._one_line():
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
    def _one_line(self) -> Generator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        refused = (SQLAlchemyError, self._optuna.exceptions.OptunaError, OSError, ValueError)
        try:
            yield
        except refused as error:
            reason = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
            raise SnowError(f"{self._path or 'the study'} cannot be used: {reason}") from error
