"""A learned task as a folder: `config.json`, `model.safetensors`, `metrics.json`. Only what was learned is in it.

Where the choice of channels was recorded in training, `choice.safetensors` holds it; a task answers without that file.
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

from snow.errors import SnowError
from snow.hub.card import task_card
from snow.hub.sharing import Shared, located
from snow.methods import METHODS, Method
from snow.source import Source
from snow.store import atomic_folder, check_name
from snow.store.files import read_json, write_json
from snow.subscribe import SelectionHistory

FORMAT = 1
KINDS = {"format": int, "task": str, "classes": list, "method": str, "config": dict, "source": dict, "training": dict}
"""What `config.json` holds."""

SELECTION_FILE = "choice.safetensors"

KEPT = (".json", ".safetensors")
"""Files of a task's folder that belong to it. Neither can run anything when it is read."""


@dataclass(frozen=True)
class Artifact(Shared):
    """One learned task, ready to answer.

    Attributes:
        name: as `check_name` has it.
        classes: names in the order of the method's logits.
        method: in its served form.
        source: the description of the source it was learned on.
        metrics: what was measured, as JSON values.
        training: how it was learned, as JSON values.
        choices: what it took at moments of its training. `load` leaves it on the disk, for `Choices.load`.

    Raises:
        SnowError: an unsafe name, or classes that do not match the method's answer.
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
            raise SnowError(
                f"task {self.name}: {len(self.classes)} classes, but the method answers {self.method.num_classes}"
            )

    def save(self, folder: str | Path) -> Path:
        """Writes `folder` atomically: it is there whole or not at all. It must not exist yet.

        Raises:
            SnowError: it exists, or cannot be written (a full disk, no permission); nothing is left behind.
        """
        folder = Path(folder)
        with atomic_folder(folder) as new:
            self.write(new)
        return folder

    def write(self, folder: Path) -> None:
        """Its files, into a folder that is there."""
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
        """Reads a task for `source`.

        Raises:
            SnowError: a file is missing or damaged, the format is newer, the method is unknown, or the task was
                learned on a source with another fingerprint.
        """
        folder = Path(folder)
        config = read_config(folder)
        name, theirs = config["task"], config["source"]
        if theirs["fingerprint"] != source.fingerprint:
            raise SnowError(_foreign(name, theirs, source))
        if config["method"] not in METHODS:
            raise SnowError(f"task {name}: method {config['method']!r} is unknown: there are {', '.join(METHODS)}")
        try:
            with torch.random.fork_rng(devices=[]):  # what is loaded takes the place of what is drawn
                method = METHODS[config["method"]].rebuild(source, len(config["classes"]), config["config"])
            method.load_state_dict(load_file(folder / "model.safetensors"))
        except SnowError:
            raise
        except Exception as error:  # a damaged config can break a rebuild in any way
            raise SnowError(f"task {name} is damaged: {folder / 'model.safetensors'}: {error}") from error
        metrics = read_json(folder / "metrics.json")
        return cls(name, tuple(config["classes"]), method.eval(), theirs, metrics, config["training"])

    @classmethod
    def from_pretrained(
        cls, name: str | Path, source: Source, *, revision: str | None = None, token: str | None = None
    ) -> Artifact:
        """Reads a task for `source` from a folder, or from a repository OWNER/NAME of the Hugging Face hub.

        Raises:
            SnowError: there is neither, or the hub cannot be reached; and as `load`.
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
    """The files that a task's folder holds, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in KEPT and path.is_file() and path.name[0] != ".")


def copy_files(folder: Path, new: Path) -> None:
    """A task's files, and no others, into `new`; what was there is gone."""
    for path in files_of(new):
        path.unlink()
    for path in files_of(folder):
        shutil.copyfile(path, new / path.name)


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a task, checked for what `Artifact.load` relies on."""
    config = read_json(folder / "config.json")
    if isinstance(config.get("format"), int) and config["format"] > FORMAT:
        raise SnowError(f"{folder} has format {config['format']}, newer than this version reads ({FORMAT}): upgrade")
    wrong = [key for key, kind in KINDS.items() if not isinstance(config.get(key), kind)]
    if not wrong and not all(isinstance(one, str) for one in config["classes"]):
        wrong = ["classes"]
    if wrong or "fingerprint" not in config["source"]:
        raise SnowError(
            f"{folder / 'config.json'} is not a task: {', '.join(wrong) or 'fingerprint'} is missing or damaged"
        )
    return config


def versions() -> dict[str, str]:
    """Of Python and of what computes."""
    packages = ("snow-cnn", "torch", "torchvision", "timm")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _foreign(name: str, theirs: Mapping[str, Any], source: Source) -> str:
    ours = source.description()
    differing = [key for key in ("architecture", "weights", "preprocessing") if theirs.get(key) != ours[key]]
    return (
        f"task {name} was learned on another source: its fingerprint is {theirs['fingerprint']}, this source's is "
        f"{ours['fingerprint']} (differs in {', '.join(differing) or 'weights'})"
    )
