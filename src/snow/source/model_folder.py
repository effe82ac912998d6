"""The folder of a model of `transformers`, on disk or in the cache of the Hugging Face hub, read without transformers.

It is what `save_pretrained` writes: `config.json`, weights, `preprocessor_config.json`, and a model card `README.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snow.errors import DamagedError, NotFoundError, SnowError
from snow.source.description import HUGGING_FACE
from snow.source.preprocessing import Preprocessing
from snow.source.processor_config import read_processor
from snow.source.weights import require_reachable
from snow.store import read_json

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[A-Za-z0-9][\w./-]*)?")

DESCRIBING = ("config.json", "preprocessor_config.json", "processor_config.json", "README.md")

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Files that name or hold the weights, the first that is there is read."""

UNUSED = (
    "architectures", "auto_map", "transformers_version", "torch_dtype", "dtype", "id2label", "label2id",
    "problem_type", "output_attentions", "output_hidden_states", "return_dict", "use_cache", "_name_or_path",
    "_commit_hash", "_attn_implementation", "_attn_implementation_autoset", "attn_implementation",
)  # fmt: skip
"""Keys of `config.json` that do not decide what the network computes. `auto_map` names code, which is never run."""


class ModelFolder:
    """A model that is named by its folder, or by its repository on the Hugging Face hub.

    Args:
        name: of a folder, which goes first if it exists; or OWNER/NAME, or OWNER/NAME@REVISION with a branch, tag or
            commit.

    Raises:
        SnowError: there is neither, the hub cannot be reached, or `config.json` is missing, damaged or of another
            library.

    Attributes:
        spec: "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION", or "hf:" and the absolute path of the folder.
        repository: OWNER/NAME; None: it is named by its folder.
        path: of the folder; of a repository, its last part is the commit.
        config: content of `config.json`.
        processor: content of `preprocessor_config.json`; empty where there is none.
    """

    def __init__(self, name: str) -> None:
        local = Path(name).expanduser()
        self.repository = None if name and local.is_dir() else name.partition("@")[0]
        self.path = local.absolute() if self.repository is None else _cached(name)
        self.spec = HUGGING_FACE + (str(self.path) if self.repository is None else name)
        self.config = self._read_config()
        self.processor = self._read_processor()

    def kept_config(self) -> dict[str, Any]:
        """Return what of the configuration decides what the network computes."""
        return {key: value for key, value in self.config.items() if key not in UNUSED}

    def with_weights(self) -> Path:
        """Return the folder, with the weights in it.

        Raises:
            SnowError: it has none, or they cannot be downloaded.
        """
        if not any((self.path / file).exists() for file in WEIGHTS) and self.repository is not None:
            for patterns in (("model*.safetensors", WEIGHTS[1]), ("pytorch_model*.bin", WEIGHTS[3])):
                _download(self.repository, self.path.name, patterns)
                if any((self.path / file).exists() for file in WEIGHTS):
                    break
        if not any((self.path / file).exists() for file in WEIGHTS):
            raise NotFoundError(f"{self.spec} has no weights: it should have {WEIGHTS[0]}")
        return self.path

    def origin(self) -> dict[str, str]:
        """Return the licence and the model card of the weights, as far as the card states them, and their commit."""
        card = self.path / "README.md"
        stated = _front_matter(card)
        named = stated.get("license_name") if stated.get("license") in (None, "other") else None
        licence = named or stated.get("license")
        found = {"licence": ", ".join(map(str, licence)) if isinstance(licence, list) else licence}
        if self.repository is not None:
            from huggingface_hub import constants

            found |= {"model card": f"{constants.ENDPOINT}/{self.repository}", "revision": self.path.name}
        elif card.is_file():
            found["model card"] = str(card)
        return {key: str(value) for key, value in found.items() if value}

    def preprocessing(self, own_size: object, image_size: int | None = None) -> Preprocessing:
        """Read how pictures are prepared, as `preprocessor_config.json` says; see `read_processor`."""
        try:
            return read_processor(self.processor, own_size, image_size)
        except SnowError as error:
            raise SnowError(f"{self.spec}: {error}") from error

    def is_bgr(self) -> bool:
        """Whether the model reads blue before green and red."""
        return bool(self.processor.get("do_flip_channel_order"))

    def _read_processor(self) -> Mapping[str, Any]:
        for file in DESCRIBING[1:3]:
            if (self.path / file).is_file():
                values = read_json(self.path / file)
                found = values if file == DESCRIBING[1] else values.get("image_processor", {})
                if isinstance(found, Mapping) and found:
                    return found
        return {}

    def _read_config(self) -> dict[str, Any]:
        file = self.path / "config.json"
        if not file.is_file():
            raise NotFoundError(f"{self.spec} has no config.json: it is no model of transformers")
        config = read_json(file)
        kind = config.get("model_type")
        if kind == "timm_wrapper" or (kind is None and isinstance(config.get("architecture"), str)):
            raise SnowError(f"{self.spec} is a model of timm: name it {config.get('architecture', 'as timm does')}")
        if not isinstance(kind, str):
            raise DamagedError(f"{file} names no model_type: it is no model of transformers")
        if "quantization_config" in config:
            raise SnowError(f"{self.spec} is quantised: name the model that it was made from")
        return config


def full_name(spec: str) -> str:
    """Spell the name of a source as `ModelFolder.spec` does, without looking for a repository."""
    if not spec.startswith(HUGGING_FACE):
        return spec
    local = Path(spec.removeprefix(HUGGING_FACE)).expanduser()
    return HUGGING_FACE + str(local.absolute()) if local.is_dir() else spec


def _cached(name: str) -> Path:
    """Return the folder of OWNER/NAME or OWNER/NAME@REVISION in the cache, with what describes the model."""
    from huggingface_hub import try_to_load_from_cache

    if not REPOSITORY.fullmatch(name):
        raise NotFoundError(
            f"there is no folder {name!r}, and a repository is named hf:OWNER/NAME, or hf:OWNER/NAME@REVISION"
        )
    repository, _, revision = name.partition("@")
    cached = try_to_load_from_cache(repository, "config.json", revision=revision or None)
    return Path(cached).parent if isinstance(cached, str) else _download(repository, revision, DESCRIBING)


def _download(repository: str, revision: str, patterns: tuple[str, ...]) -> Path:
    """Return the folder of a repository in the cache, with the files of these patterns.

    Args:
        revision: branch, tag or commit; empty: the main branch.
    """
    from huggingface_hub import constants, errors, snapshot_download

    spec = HUGGING_FACE + repository + (f"@{revision}" if revision else "")
    try:
        require_reachable(constants.ENDPOINT, repository)
    except SnowError as error:
        raise SnowError(
            f"{spec} is no folder and not cached, and {constants.ENDPOINT} cannot be reached: connect once, or name a "
            "folder"
        ) from error
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns)))
    except errors.RepositoryNotFoundError as error:
        raise NotFoundError(
            f"there is no folder {repository!r}, and no such repository on the Hugging Face hub, or it is private"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NotFoundError(f"{HUGGING_FACE}{repository} has no revision {revision!r}") from error
    except (OSError, ValueError, errors.HTTPError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise SnowError(f"{spec} cannot be downloaded: {reason}") from error


def _front_matter(card: Path) -> Mapping[str, Any]:
    """Read the metadata of a model card; one that is missing or damaged says nothing."""
    from huggingface_hub import metadata_load

    try:
        found = metadata_load(card) if card.is_file() else None
    except Exception:  # errors of YAML have no common type, and a card decides nothing
        found = None
    return found if isinstance(found, Mapping) else {}
