"""Options one at a time around a point, and then jointly: trained side by side, measured on held-out pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from snow.compare.compare import HELD_OUT
from snow.compare.provenance import provenance
from snow.compare.record import begin, keep
from snow.data import Dataset
from snow.errors import SnowError
from snow.scatter import Workers
from snow.source import Source
from snow.sweep.option import Option
from snow.sweep.point import Point, Setting
from snow.sweep.study import Study
from snow.sweep.table import curve
from snow.sweep.training import Training
from snow.training.checkpoint import data_fingerprint
from snow.training.listeners.listener import Listener

TOGETHER = 8


@dataclass(frozen=True)
class Sweep:
    """What to sweep over, and on what.

    Attributes:
        around: the point of which one option at a time is changed.
        options: what is changed.
        seeds: each setting is trained with each of them.
        held_out: fraction of the training pictures that accuracy is measured on; the test pictures are never seen.
        together: at most so many trials learn side by side on one pass of the source. Those whose recipes differ in
            more than the learning rate never do.
        search: afterwards, so many trials in which all options change at once within the range of their values, each
            chosen after those before; with the first seed.
    """

    source: Source
    dataset: Dataset
    around: Point
    options: tuple[Option, ...]
    seeds: tuple[int, ...] = (0,)
    held_out: float = HELD_OUT
    together: int = TOGETHER
    search: int = 0

    def __post_init__(self) -> None:
        if len(self.dataset.tasks) != 1:
            raise SnowError("options are swept over on one task: name one label column")
        names = [option.name for option in self.options]
        if not names or len(set(names)) < len(names):
            raise SnowError(f"a sweep goes over one option or more, each named once, not {', '.join(names) or 'none'}")
        if not self.seeds or self.together < 1 or self.search < 0:
            raise SnowError("a sweep needs at least one seed, one trial on a pass, and no fewer than 0 to search")

    @property
    def centre(self) -> dict[str, Any]:
        """The values of the options at `around`."""
        return {option.name: self.around.value(option.name) for option in self.options}

    def changed(self, setting: Setting) -> dict[str, Any]:
        """What differs from `around` in a setting."""
        return {name: value for name, value in setting.items() if value != self.around.value(name)}

    def wanted(self) -> list[dict[str, Any]]:
        """`centre`, then each option in turn with each of its other values."""
        others = [{option.name: value} for option in self.options for value in option.values]
        return [self.centre, *({**self.centre, **other} for other in others if self.changed(other))]


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
    about = {**(about or {}), "fingerprint": data_fingerprint(work.dataset)}
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
