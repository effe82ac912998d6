"""Options one at a time around a point, and then jointly: trained side by side, measured on held-out pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

from snow.distributed.ray_map import Workers
from snow.errors import SnowError
from snow.experiments.results.record import begin, keep, provenance
from snow.experiments.sweep.options import Sweep
from snow.experiments.sweep.study import Study
from snow.experiments.sweep.table import curve
from snow.experiments.sweep.training import Training
from snow.training.checkpoint import data_digest
from snow.training.listeners import Listener


def sweep(
    work: Sweep,
    about: Mapping[str, Any] | None = None,
    out: Path | None = None,
    listeners: Callable[[str], Sequence[Listener]] = lambda _: (),
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Runs a sweep and returns its results as JSON values.

    What shares a pass draws its noise in turn: with other company, or another `together`, a trial ends a little
    differently.

    Args:
        about: what the results should say of the data.
        out: JSON file for the results. Beside it stands a file `.db` of trials: a second call with the same arguments,
            or with further options, values or seeds, trains only what is not in it.
        listeners: for a stage with this name, of what learns in this process.
        workers: each pass learns on one of a Ray cluster, many at once; None: one after the other in this process.

    Raises:
        SnowError: Optuna is not installed, `out` holds something else; and as `fit`.
        Interrupted: as `fit`; the same call goes on.
    """
    about = {**(about or {}), "fingerprint": data_digest(work.dataset)}
    settings = {
        "source": work.source.description(),
        "data": about,
        "recipe": work.around.recipe.to_dict(),
        "options": asdict(work.around.config),
        "held_out": work.held_out,
    }
    begun = begin(out, settings, {"over": {}})
    path = _study_path(out)
    study = Study(path, settings, work.options, work.around.recipe.seed)
    training = Training(work, study, path, listeners, workers)
    done = [(work.changed(trial.setting), trial.seed) for trial in study.trials()]
    training.begin(
        [
            (setting, seed)
            for seed in work.seeds
            for setting in work.wanted()
            if (work.changed(setting), seed) not in done
        ]
    )
    while (left := work.search - sum(trial.searched for trial in study.trials())) > 0:
        training.train([study.suggest(work.seeds[0]) for _ in range(min(left, work.together))])
    training.tidy()
    trials = [
        {
            "variant": work.around.at(trial.setting).variant.label,
            "setting": work.changed(trial.setting),
            "seed": trial.seed,
            "searched": trial.searched,
            **trial.result,
        }
        for trial in study.trials()
    ]
    over = {option.name: curve(option.name, option.values, work.centre, trials) for option in work.options}
    results = {
        **begun,
        **provenance(),
        "seeds": list(work.seeds),
        "centre": work.centre,
        "over": over,
        "best": max((trial for trial in trials if "top1" in trial), key=itemgetter("top1"), default=None),
        "trials": trials,
    }
    keep(out, results)
    return results


def _study_path(out: Path | None) -> Path | None:
    if out is None:
        return None
    if out.suffix == ".db":
        raise SnowError(f"{out} would be the file of the trials: name the results, such as {out.with_suffix('.json')}")
    return out.with_suffix(".db")
