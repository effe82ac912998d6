"""One table or figure of the paper, from measuring to what is written of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from snow.errors import SnowError
from snow.experiments.reproduce import panel
from snow.experiments.reproduce.estimate import TimeEstimate
from snow.experiments.reproduce.panel import Panel
from snow.experiments.reproduce.settings import ReproductionSettings
from snow.experiments.results.record import keep
from snow.methods.variant import Variant
from snow.store import atomic_file

Results = Mapping[str, Any]


class Experiment(ABC):
    """A new one is one file and one line in `EXPERIMENTS`.

    Attributes:
        name: what the command calls it.
        title: what the paper calls it, and what it shows.
        differs: what is not as in the paper, and why, for whoever reads the report.
        methods: labels of what is measured, with commas between, unless others are asked for.
        needs_data: cannot do without pictures.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    differs: ClassVar[str]
    methods: ClassVar[str] = ""
    head: ClassVar[str] = "method"
    needs_data: ClassVar[bool] = True

    def variants(self, work: ReproductionSettings) -> tuple[Variant, ...]:
        return work.methods or Variant.parse(self.methods)

    @abstractmethod
    def costs(self, work: ReproductionSettings) -> list[TimeEstimate]:
        """What is left to be done, by stages."""

    @abstractmethod
    def run(self, work: ReproductionSettings) -> dict[str, Any]:
        """Measures what is not there yet, and returns all of it as JSON values.

        Raises:
            SnowError: the folder holds results of other work; and as what is called.
        """

    def panels(self, results: Results) -> list[Panel]:
        """The paper's figures beside ours."""
        return []

    @abstractmethod
    def origins(self, results: Results) -> list[str]:
        """Lines on where our figures come from."""

    def body(self, results: Results) -> str:
        """The tables, as Markdown."""
        return panel.markdown(self.panels(results), self.head)

    def draw(self, results: Results, path: Path) -> None:
        """Raises SnowError: as `snow.experiments.plots.figure.check`; there is nothing to draw."""
        panel.draw(self.panels(results), path)

    def measured(self, results: Results) -> str:
        """The tables and where they come from, as Markdown."""
        return "\n".join([self.body(results), *self.origins(results)])

    def markdown(self, results: Results) -> str:
        """Everything that is to be read."""
        return f"# {self.title}\n\n{self.measured(results)}\n**What differs.** {self.differs}\n"


def reproduce(experiment: Experiment, work: ReproductionSettings) -> dict[str, Any]:
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
        with atomic_file(path) as new:
            new.write_text(text, "utf-8")
    except OSError as error:
        raise SnowError(f"{path} cannot be written: {error.strerror or error}") from error
