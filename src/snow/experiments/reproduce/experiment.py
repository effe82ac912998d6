"""The base class of all experiments: measure, lay out and draw one table or figure of the paper."""

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
from snow.experiments.results.record import save_results
from snow.methods.variant import Variant
from snow.store import atomic_file

Results = Mapping[str, Any]


class Experiment(ABC):
    """One table or figure of the paper. A new one is one file and one line in `EXPERIMENTS`.

    Attributes:
        name: argument of `snow reproduce`.
        title: heading in the report.
        deviations: differences from the paper and their reasons, for readers of the report.
        methods: default methods, comma-separated labels.
        head: heading of the first column.
        needs_data: whether it cannot run without a dataset.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    deviations: ClassVar[str]
    methods: ClassVar[str] = ""
    head: ClassVar[str] = "method"
    needs_data: ClassVar[bool] = True

    def variants(self, settings: ReproductionSettings) -> tuple[Variant, ...]:
        return settings.methods or Variant.parse(self.methods)

    @abstractmethod
    def estimates(self, settings: ReproductionSettings) -> list[TimeEstimate]:
        """Estimate the time of every stage that is left to do."""

    @abstractmethod
    def run(self, settings: ReproductionSettings) -> dict[str, Any]:
        """Measure what the folder lacks, and return all results as JSON values.

        Raises:
            SnowError: the folder holds results of another run; and as the functions it calls.
        """

    def panels(self, results: Results) -> list[Panel]:
        """Collect the paper's figures and ours."""
        return []

    @abstractmethod
    def origins(self, results: Results) -> list[str]:
        """Write the lines on the origin of our figures."""

    def body(self, results: Results) -> str:
        """Write the tables as Markdown."""
        return panel.markdown(self.panels(results), self.head)

    def draw(self, results: Results, path: Path) -> None:
        """Draw the results.

        Raises:
            SnowError: there is nothing to draw; and as `snow.experiments.plots.figure.check_picture_path`.
        """
        panel.draw(self.panels(results), path)

    def section(self, results: Results) -> str:
        """Write the tables and the lines on their origin."""
        return "\n".join([self.body(results), *self.origins(results)])

    def markdown(self, results: Results) -> str:
        """Write the whole page: heading, tables, origin, differences from the paper."""
        return f"# {self.title}\n\n{self.section(results)}\n**Differences from the paper.** {self.deviations}\n"


def reproduce(experiment: Experiment, settings: ReproductionSettings) -> dict[str, Any]:
    """Run an experiment, write NAME.json, NAME.md and NAME.png, and return the results as JSON values.

    Raises:
        SnowError: as the experiment; or a file cannot be written.
        Interrupted: as `fit`; a second call continues.
    """
    results = {"experiment": experiment.name, **experiment.run(settings)}
    results["beside"] = [panel.to_dict() for panel in experiment.panels(results)]
    save_results(settings.folder / f"{experiment.name}.json", results)
    _write(settings.folder / f"{experiment.name}.md", experiment.markdown(results))
    try:
        experiment.draw(results, settings.folder / f"{experiment.name}.png")
    except SnowError as error:
        settings.log(f"no plot was written: {error}")
    return results


def _write(path: Path, text: str) -> None:
    try:
        with atomic_file(path) as new:
            new.write_text(text, "utf-8")
    except OSError as error:
        raise SnowError(f"{path} cannot be written: {error.strerror or error}") from error
