"""A trained task as a folder: `config.json`, `model.safetensors`, `metrics.json`. The source is not part of it.

`choice.safetensors` holds the selection history if training recorded one; inference does not need it.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from snow.errors import DamagedError, MismatchError, NotFoundError, SnowError
from snow.hub.card import task_card
from snow.hub.sharing import Shared, located
from snow.methods import METHODS, Method
from snow.source import Source
from snow.store import atomic_folder, check_name
from snow.store.files import read_json, write_json
from snow.subscribe import SelectionHistory

FORMAT = 1
KINDS = {"format": int, "task": str, "classes": list, "method": str, "config": dict, "source": dict, "training": dict}
"""Keys of `config.json` and their types."""

SELECTION_FILE = "choice.safetensors"

SUFFIXES = (".json", ".safetensors")
"""Suffixes of the files that belong to a task. Neither format can execute code when loaded."""


@dataclass(frozen=True)
class Artifact(Shared):
    """One trained task, ready for inference.

    Attributes:
        name: accepted by `check_name`.
        classes: class names in the order of the logits.
        method: in the form for inference (`Method.export_form`).
        source: description of the source that it was trained on.
        metrics: results of training and evaluation, as JSON values.
        training: recipe and data of the training, as JSON values.
        selection_history: selected channels over the course of training; `load` leaves it on disk.

    Raises:
        SnowError: an unsafe name, or a number of classes that does not match the method.
    """

    name: str
    classes: tuple[str, ...]
    method: Method
    source: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    selection_history: SelectionHistory | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.classes) != self.method.num_classes:
            raise MismatchError(
                f"task {self.name} has {len(self.classes)} classes, but its method has {self.method.num_classes}"
            )

    def save(self, folder: str | Path) -> Path:
        """Save to a new folder, atomically: after an error nothing is left behind.

        Raises:
            SnowError: the folder exists, or cannot be written.
        """
        folder = Path(folder)
        with atomic_folder(folder) as new:
            self.write(new)
        return folder

    def write(self, folder: Path) -> None:
        """Write the files of the task into an existing folder."""
        config = {
            "format": FORMAT,
            "task": self.name,
            "classes": list(self.classes),
            "method": self.method.name,
            "config": self.method.config,
            "source": self.source,
            "training": self.training,
            "versions": versions(),
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.method.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")
        write_json(folder / "config.json", config)
        write_json(folder / "metrics.json", self.metrics)
        if self.selection_history is not None:
            self.selection_history.save(folder / SELECTION_FILE)

    @classmethod
    def load(cls, folder: str | Path, source: Source) -> Artifact:
        """Load a task for `source`, which must have the fingerprint of the source that the task was trained on.

        Raises:
            SnowError: a file is missing or damaged, the format is newer than this version, the method is unknown, or
                the source is another one.
        """
        folder = Path(folder)
        config = read_config(folder)
        name, trained_on = config["task"], config["source"]
        if trained_on["fingerprint"] != source.fingerprint:
            raise MismatchError(_other_source(name, trained_on, source))
        if config["method"] not in METHODS:
            raise NotFoundError(f"task {name}: unknown method {config['method']!r}: there are {', '.join(METHODS)}")
        try:
            with torch.random.fork_rng(devices=[]):  # the random weights are replaced below
                method = METHODS[config["method"]].rebuild(source, len(config["classes"]), config["config"])
            method.load_state_dict(load_file(folder / "model.safetensors"))
        except SnowError:
            raise
        except Exception as error:  # a damaged config can fail anywhere in the rebuild
            raise DamagedError(f"task {name} is damaged: {folder / 'model.safetensors'}: {error}") from error
        metrics = read_json(folder / "metrics.json")
        return cls(name, tuple(config["classes"]), method.eval(), trained_on, metrics, config["training"])

    @classmethod
    def from_pretrained(
        cls, name: str | Path, source: Source, *, revision: str | None = None, token: str | None = None
    ) -> Artifact:
        """Load a task for `source` from a folder, or from a repository OWNER/NAME of the Hugging Face Hub.

        Raises:
            SnowError: there is neither, or the Hub cannot be reached; and as `load`.
        """
        return cls.load(located(name, revision, token), source)

    def export(self, folder: Path, repository: str) -> str:
        self.write(folder)
        return task_card(read_config(folder), self.metrics, repository)

    @property
    def size(self) -> int:
        """Bytes of the saved tensors."""
        return sum(value.numel() * value.element_size() for value in self.method.state_dict().values())


def files_of(folder: Path) -> list[Path]:
    """List the files of a task, sorted by name."""
    return sorted(
        path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file() and path.name[0] != "."
    )


def copy_files(folder: Path, new: Path) -> None:
    """Replace the files of the task in `new` by those in `folder`."""
    for path in files_of(new):
        path.unlink()
    for path in files_of(folder):
        shutil.copyfile(path, new / path.name)


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a task, and check the keys that `Artifact.load` uses.

    Raises:
        SnowError: the file is missing, damaged, or of a newer format.
    """
    config = read_json(folder / "config.json")
    if isinstance(config.get("format"), int) and config["format"] > FORMAT:
        raise MismatchError(
            f"{folder} has format {config['format']}, newer than this version reads ({FORMAT}): upgrade snow-cnn"
        )
    wrong = [key for key, kind in KINDS.items() if not isinstance(config.get(key), kind)]
    if not wrong and not all(isinstance(name, str) for name in config["classes"]):
        wrong = ["classes"]
    if wrong or "fingerprint" not in config["source"]:
        keys = ", ".join(wrong) or "fingerprint"
        raise DamagedError(f"{folder / 'config.json'} is not that of a task: {keys} is missing or damaged")
    return config


def versions() -> dict[str, str]:
    """Report the versions of Python and of the packages that compute."""
    packages = ("snow-cnn", "torch", "torchvision", "timm")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _other_source(name: str, trained_on: Mapping[str, Any], source: Source) -> str:
    present = source.description()
    keys = ("architecture", "weights", "preprocessing")
    differing = [key for key in keys if trained_on.get(key) != present[key]]
    return (
        f"task {name} was trained on another source: its fingerprint is {trained_on['fingerprint']}, this source's is "
        f"{present['fingerprint']} (differs in {', '.join(differing) or 'weights'})"
    )
