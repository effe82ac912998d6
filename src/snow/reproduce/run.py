"""From an experiment to its files: `NAME.json`, `NAME.md` and `NAME.png`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snow.compare.record import keep
from snow.errors import SnowError
from snow.reproduce.experiment import Experiment
from snow.reproduce.work import Work
from snow.store import whole_file


def reproduce(experiment: Experiment, work: Work) -> dict[str, Any]:
    """Measures what is not in the folder yet, writes everything, and returns the results as JSON values.

    Raises:
        SnowError: as the experiment; or a file cannot be written.
        Interrupted: as `fit`; a second call goes on.
    """
    results = {"experiment": experiment.name, **experiment.run(work)}
    results["beside"] = [panel.to_dict() for panel in experiment.panels(results)]
    keep(work.folder / f"{experiment.name}.json", results)
    _write(work.folder / f"{experiment.name}.md", experiment.markdown(results))
    try:
        experiment.draw(results, work.folder / f"{experiment.name}.png")
    except SnowError as error:
        work.note(f"there is no picture: {error}")
    return results


def _write(path: Path, text: str) -> None:
    try:
        with whole_file(path) as new:
            new.write_text(text, "utf-8")
    except OSError as error:
        raise SnowError(f"{path} cannot be written: {error.strerror or error}") from error
