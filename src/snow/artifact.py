"""A learned task as a folder: `config.json`, `model.safetensors`, `metrics.json`. Only what was learned is in it.

Where the choice of channels was recorded in training, `choice.safetensors` holds it; a task answers without that file.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from snow.errors import SnowError
from snow.methods import METHODS, Method
from snow.source import Source
from snow.subscribe import Choices

FORMAT = 1
KINDS = {"format": int, "task": str, "classes": list, "method": str, "config": dict, "source": dict, "training": dict}
"""What `config.json` holds."""

CHOICES = "choice.safetensors"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Artifact:
    """One learned task, ready to answer.

    Attributes:
        name: letters, digits, '.', '_' and '-', at most 64.
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
    choices: Choices | None = None

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
        with _new_folder(folder) as new:
            tensors = {name: value.detach().cpu().contiguous() for name, value in self.method.state_dict().items()}
            save_file(tensors, new / "model.safetensors")
            write_json(new / "config.json", config)
            write_json(new / "metrics.json", self.metrics)
            if self.choices is not None:
                self.choices.save(new / CHOICES)
        return folder

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
            method = METHODS[config["method"]].rebuild(source, len(config["classes"]), config["config"])
            method.load_state_dict(load_file(folder / "model.safetensors"))
        except SnowError:
            raise
        except Exception as error:  # a damaged config can break a rebuild in any way
            raise SnowError(f"task {name} is damaged: {folder / 'model.safetensors'}: {error}") from error
        metrics = read_json(folder / "metrics.json")
        return cls(name, tuple(config["classes"]), method.eval(), theirs, metrics, config["training"])

    @property
    def size(self) -> int:
        """Bytes of the saved tensors."""
        return sum(value.numel() * value.element_size() for value in self.method.state_dict().values())


def check_name(name: str) -> str:
    """Raises SnowError for a name that is not safe as a folder's name everywhere."""
    if not NAME.fullmatch(name):
        raise SnowError(f"{name!r} cannot name a task: use 1 to 64 letters, digits, '.', '_' or '-', no leading sign")
    return name


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a task, checked for what `Artifact.load` relies on."""
    config = read_json(folder / "config.json")
    if isinstance(config.get("format"), int) and config["format"] > FORMAT:
        raise SnowError(f"{folder} has format {config['format']}, newer than this version reads ({FORMAT}): upgrade")
    wrong = [key for key, kind in KINDS.items() if not isinstance(config.get(key), kind)]
    if wrong or "fingerprint" not in config["source"]:
        raise SnowError(
            f"{folder / 'config.json'} is not a task: {', '.join(wrong) or 'fingerprint'} is missing or damaged"
        )
    return config


def read_json(path: Path) -> dict[str, Any]:
    """Raises SnowError: the file is missing or is not a JSON object."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SnowError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise SnowError(f"{path} is not a JSON object")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")


def versions() -> dict[str, str]:
    """Of Python and of what computes."""
    packages = ("snow-cnn", "torch", "torchvision", "timm")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


@contextmanager
def _new_folder(folder: Path) -> Generator[Path]:
    """A temporary folder beside `folder` that becomes it when the block ends well, and vanishes otherwise."""
    if folder.exists():
        raise SnowError(f"{folder} is there already: remove it or choose another name")
    new: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield new
        for path in new.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.chmod(0o644)
        new.chmod(0o755)
        new.rename(folder)
    except (OSError, SafetensorError) as error:
        raise SnowError(f"{folder} cannot be written: {error}") from error
    finally:
        if new is not None and new.exists():
            shutil.rmtree(new, ignore_errors=True)


def _foreign(name: str, theirs: Mapping[str, Any], source: Source) -> str:
    ours = source.description()
    differing = [key for key in ("architecture", "weights", "preprocessing") if theirs.get(key) != ours[key]]
    return (
        f"task {name} was learned on another source: its fingerprint is {theirs['fingerprint']}, this source's is "
        f"{ours['fingerprint']} (differs in {', '.join(differing) or 'weights'})"
    )
