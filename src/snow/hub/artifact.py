"""A trained task as a folder: `config.json`, `model.safetensors`, `metrics.json`. The source is not part of it.

`choice.safetensors` holds the selection history if training recorded one; inference does not need it. Everything in a
folder may come from somebody else: it is checked before it is used.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from snow.errors import DamagedError, MismatchError, NotFoundError
from snow.hub.blueprint import Blueprints, outputs_of
from snow.hub.card import task_card
from snow.hub.coded_tensors import CodedTensors, as_decoded, decode_tensors
from snow.hub.sharing import Shared, resolve_snapshot
from snow.hub.task_files import (
    CLASS_FORMAT,
    CONFIG_FILE,
    FORMAT,
    KIND_FORMAT,
    KNOWN_FILE,
    METRICS_FILE,
    MODEL_FILE,
    SELECTION_FILE,
    read_config,
    read_content,
)
from snow.hub.task_record import require_unchanged
from snow.hub.tensor_file import header_of
from snow.hub.tensor_values import read_tensors
from snow.inference.familiarity import Familiarity
from snow.kinds import ClassKind, LabelKind, kind_of, saved_labels
from snow.methods import SAVED_METHODS, Method
from snow.source import Source
from snow.store import atomic_folder, check_name
from snow.store.files import read_json, write_json
from snow.subscribe import SelectionHistory


@dataclass(frozen=True)
class Artifact(Shared):
    """One trained task, ready for inference.

    Attributes:
        name: accepted by `check_name`.
        classes: names of classes, tags or grades, in the order of the answer; () for a number.
        method: in the form for inference (`Method.export_form`).
        source: description of the source that it was trained on.
        metrics: results of training and evaluation, as JSON values.
        training: recipe and data of the training, as JSON values.
        selection_history: selected channels over the course of training; `load` leaves it on disk.
        labels: the kind of its labels; by default one of `classes`.
        familiarity: statistics of its training pictures; None: it cannot tell how familiar a picture is.
        coded: the tensors of the method in few bits, to be saved in the place of its own; None: they are saved whole.

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
    labels: LabelKind = None  # ty: ignore[invalid-assignment]  set below
    familiarity: Familiarity | None = None
    coded: CodedTensors | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        object.__setattr__(self, "labels", self.labels or ClassKind(tuple(self.classes)))
        if self.labels.outputs != self.method.num_classes:
            raise MismatchError(
                f"task {self.name} has {self.labels.outputs} classes, but its method has {self.method.num_classes}"
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
            "format": self._format,
            "task": self.name,
            "classes": list(self.classes),
            **({"labels": labels} if (labels := saved_labels(self.labels)) else {}),
            **({"bits": coded.bits} if (coded := self._coded) is not None else {}),
            "method": self.method.name,
            "config": self.method.config,
            "source": self.source,
            "training": self.training,
            "versions": versions(),
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in self._tensors.items()}
        save_file(tensors, folder / MODEL_FILE)
        write_json(folder / CONFIG_FILE, config)
        write_json(folder / METRICS_FILE, self.metrics)
        if self.selection_history is not None:
            self.selection_history.save(folder / SELECTION_FILE)
        if self.familiarity is not None:
            save_file(self.familiarity.tensors(), folder / KNOWN_FILE)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        source: Source,
        *,
        blueprints: Blueprints | None = None,
        compare_record: bool = False,
    ) -> Artifact:
        """Load a task for `source`, which must have the fingerprint of the source that the task was trained on.

        Args:
            blueprints: those of the hub, which loads many tasks; by default a new one is made.
            compare_record: require that the files are those of the record, if there is one.

        Raises:
            SnowError: a file is missing or damaged, the format is newer than this version, the method is unknown, or
                the source is another one.
        """
        folder = Path(folder)
        config = read_config(folder)
        name, trained_on = config["task"], config["source"]
        if trained_on["fingerprint"] != source.fingerprint:
            raise MismatchError(_other_source(name, trained_on, source))
        if config["method"] not in SAVED_METHODS:
            known = ", ".join(SAVED_METHODS)
            raise NotFoundError(f"task {name}: unknown method {config['method']!r}: there are {known}")
        try:
            content = read_content(folder / MODEL_FILE)
            if compare_record:
                require_unchanged(folder, content={MODEL_FILE: content})
            blueprints = blueprints or Blueprints(source)
            method, coded = _load_method(content, folder / MODEL_FILE, config, source, blueprints)
            familiarity = _load_familiarity(folder / KNOWN_FILE, source)
        except NotFoundError:
            raise
        except Exception as error:  # a damaged config can fail anywhere in the rebuild
            raise DamagedError(f"task {name} is damaged: {error}") from error
        metrics, labels = read_json(folder / METRICS_FILE), kind_of(config["classes"], config.get("labels", {}))
        return cls(
            name,
            labels.names,
            method,
            trained_on,
            metrics,
            config["training"],
            labels=labels,
            familiarity=familiarity,
            coded=coded,
        )

    @classmethod
    def from_pretrained(
        cls, name: str | Path, source: Source, *, revision: str | None = None, token: str | None = None
    ) -> Artifact:
        """Load a task for `source` from a folder, or from a repository OWNER/NAME of the Hugging Face Hub.

        Raises:
            SnowError: there is neither, or the Hub cannot be reached; and as `load`.
        """
        return cls.load(resolve_snapshot(name, revision, token), source)

    def export(self, folder: Path, repository: str) -> str:
        self.write(folder)
        return task_card(read_config(folder), self.metrics, repository)

    @cached_property
    def size(self) -> int:
        """Bytes of the saved tensors."""
        return sum(value.numel() * value.element_size() for value in self._tensors.values())

    @property
    def _coded(self) -> CodedTensors | None:
        """The coded tensors, if they are those of the method: it may have been replaced."""
        return self.coded if self.coded is not None and self.coded.method is self.method else None

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """The tensors as they are saved."""
        return self.method.state_dict() if self._coded is None else self._coded.tensors

    @property
    def _format(self) -> int:
        """The oldest format that describes this task."""
        if self._coded is not None:
            return FORMAT
        return KIND_FORMAT if saved_labels(self.labels) else CLASS_FORMAT

    @cached_property
    def learned_parameters(self) -> int:
        """Number of parameters of the method, counted once: the method is in its export form already."""
        return self.method.learned_parameters


def _load_method(
    content: bytearray, path: Path, config: Mapping[str, Any], source: Source, blueprints: Blueprints
) -> tuple[Method, CodedTensors | None]:
    """Build the method that `config` describes with the tensors of a file, once both are checked.

    Raises:
        SnowError: the tensors do not fit the configuration or the source.
    """
    stored = header_of(content, path)
    blueprint = blueprints.get(config, stored)
    is_coded = "bits" in config
    blueprint.check(as_decoded(stored, blueprint.tensors) if is_coded else stored)
    blueprint.method.check_source(source)
    saved = read_tensors(content, stored, path)
    tensors = decode_tensors(saved, stored, blueprint, source) if is_coded else saved
    if blueprint.can_be_filled:
        method = blueprint.fill(tensors)
    else:
        with torch.random.fork_rng(devices=[]):  # the random weights are replaced below
            method = SAVED_METHODS[config["method"]].rebuild(source, outputs_of(config), config["config"]).eval()
        method.load_state_dict(tensors)
    method.check_indices()
    return method, CodedTensors(method, int(config["bits"]), saved) if is_coded else None


def _load_familiarity(path: Path, source: Source) -> Familiarity | None:
    """Read the statistics of a task's training pictures, if it has any.

    Raises:
        SnowError: the file is damaged, or does not fit the source.
    """
    if not os.path.lexists(path):
        return None
    content = read_content(path)
    familiarity = Familiarity.of_tensors(read_tensors(content, header_of(content, path), path))
    if len(familiarity.centre) != source.num_features:
        raise DamagedError(f"{path} describes {len(familiarity.centre)} features, the source has {source.num_features}")
    return familiarity


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
