"""Run a sweep: each option alone around a base configuration, then a search over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from snow.distributed.ray_map import Workers
from snow.errors import SnowError
from snow.experiments.results.figures import kind_entry
from snow.experiments.results.record import open_results, provenance, save_results
from snow.experiments.sweep.options import Sweep
from snow.experiments.sweep.study import Study
from snow.experiments.sweep.table import curve, score_of
from snow.experiments.sweep.trials import TrialRunner
from snow.training.checkpoint import data_digest
from snow.training.listeners import Listener


def run_sweep(
    sweep: Sweep,
    about: Mapping[str, Any] | None = None,
    out: Path | None = None,
    listeners: Callable[[str], Sequence[Listener]] = lambda _: (),
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Train all trials of a sweep, and return the results as JSON values.

    Trials that share a source pass also share a random generator: a trial ends slightly differently with other trials
    beside it, or with another `Sweep.together`.

    Args:
        about: a description of the data, for the results.
        out: results file. The trials are kept beside it in a `.db` file: a second call with the same arguments, or with
            further options, values or seeds, trains only the trials that are missing there.
        listeners: makes the listeners of a training run in this process from its name.
        workers: trains each source pass on a Ray worker, many at once; None trains one after another in this process.

    Raises:
        SnowError: Optuna is not installed, `out` holds something else; and as `fit`.
        Interrupted: as `fit`; the same call continues.
    """
    identity = {
        "source": sweep.source.description(),
        "data": {**(about or {}), "fingerprint": data_digest(sweep.dataset)},
        "recipe": sweep.base.recipe.to_dict(),
        "options": sweep.base.config.to_dict(),
        "held_out": sweep.held_out,
    }
    previous = open_results(out, identity, {"over": {}})
    path = _study_path(out)
    study = Study(path, identity, sweep.options, sweep.base.recipe.seed)
    _train_missing(sweep, study, TrialRunner(sweep, study, path, listeners, workers))
    results = {**previous, **provenance(), **_summary(sweep, study)}
    save_results(out, results)
    return results


def _train_missing(sweep: Sweep, study: Study, runner: TrialRunner) -> None:
    """Train the settings that the study lacks, then the trials of the search."""
    done = [(sweep.changed(trial.setting), trial.seed) for trial in study.trials()]
    wanted = [(setting, seed) for seed in sweep.seeds for setting in sweep.settings()]
    runner.train_settings([(setting, seed) for setting, seed in wanted if (sweep.changed(setting), seed) not in done])
    while (left := sweep.search - sum(trial.searched for trial in study.trials())) > 0:
        runner.train([study.suggest(sweep.seeds[0]) for _ in range(min(left, sweep.together))])
    runner.remove_checkpoints()


def _summary(sweep: Sweep, study: Study) -> dict[str, Any]:
    trials = [
        {
            "variant": sweep.base.with_values(trial.setting).variant.label,
            "setting": sweep.changed(trial.setting),
            "seed": trial.seed,
            "searched": trial.searched,
            **trial.result,
        }
        for trial in study.trials()
    ]
    kind = sweep.dataset.tasks[0].kind
    ranked = [trial for trial in trials if score_of(trial) is not None]
    return {
        **kind_entry(kind),
        "seeds": list(sweep.seeds),
        "centre": sweep.centre,
        "over": {
            option.name: curve(option.name, option.values, sweep.centre, trials, kind.figures)
            for option in sweep.options
        },
        "best": max(ranked, key=lambda trial: score_of(trial) or 0.0, default=None),
        "trials": trials,
    }


def _study_path(out: Path | None) -> Path | None:
    if out is None:
        return None
    if out.suffix == ".db":
        raise SnowError(f"{out} is where the trials are kept: name a results file, such as {out.with_suffix('.json')}")
    return out.with_suffix(".db")
