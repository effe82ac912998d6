"""The folder of a model of `transformers`, on disk or in the cache of the Hugging Face hub, read without transformers.

It is what `save_pretrained` writes: `config.json`, weights, `preprocessor_config.json`, and a model card `README.md`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snow.errors import DamagedError, NotFoundError, SnowError
from snow.source.description import HUGGING_FACE
from snow.source.preprocessing import Preprocessing
from snow.source.weights import require_reachable
from snow.store import read_json

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

DESCRIBING = ("config.json", "preprocessor_config.json", "processor_config.json", "README.md")

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Files that name or hold the weights, the first that is there is read."""

UNUSED = (
    "architectures", "auto_map", "transformers_version", "torch_dtype", "dtype", "id2label", "label2id",
    "problem_type", "output_attentions", "output_hidden_states", "return_dict", "use_cache", "_name_or_path",
    "_commit_hash", "_attn_implementation", "_attn_implementation_autoset", "attn_implementation",
)  # fmt: skip
"""Keys of `config.json` that do not decide what the network computes. `auto_map` names code, which is never run."""

RESAMPLING = {0: "nearest", 1: "bicubic", 2: "bilinear", 3: "bicubic", 4: "bilinear", 5: "bilinear"}
"""Numbers of Pillow, and the nearest of `INTERPOLATIONS`."""

log = logging.getLogger("snow")


class ModelFolder:
    """A model that is named by its folder, or by its repository OWNER/NAME on the Hugging Face hub.

    Args:
        name: of either; a folder that exists goes first.

    Raises:
        SnowError: there is neither, the hub cannot be reached, or `config.json` is missing, damaged or of another
            library.

    Attributes:
        spec: "hf:OWNER/NAME", or "hf:" and the absolute path of the folder.
        path: of the folder.
        config: content of `config.json`.
        processor: content of `preprocessor_config.json`.
    """

    def __init__(self, name: str) -> None:
        local = Path(name).expanduser()
        self.repository = None if name and local.is_dir() else name
        self.path = local.absolute() if self.repository is None else _download(name, DESCRIBING)
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
                _download(self.repository, patterns, self.path.name)
                if any((self.path / file).exists() for file in WEIGHTS):
                    break
        if not any((self.path / file).exists() for file in WEIGHTS):
            raise NotFoundError(f"{self.spec} has no weights: it should have {WEIGHTS[0]}")
        return self.path

    def origin(self) -> dict[str, str]:
        """Return the licence and the model card of the weights, as far as the card states them."""
        card = self.path / "README.md"
        stated = _front_matter(card)
        named = stated.get("license_name") if stated.get("license") in (None, "other") else None
        licence = named or stated.get("license")
        found = {"licence": ", ".join(map(str, licence)) if isinstance(licence, list) else licence}
        if self.repository is not None:
            from huggingface_hub import constants

            found["model card"] = f"{constants.ENDPOINT}/{self.repository}"
        elif card.is_file():
            found["model card"] = str(card)
        return {key: str(value) for key, value in found.items() if value}

    def preprocessing(self, own_size: object, image_size: int | None = None) -> Preprocessing:
        """Read how pictures are prepared, as `preprocessor_config.json` says.

        Args:
            own_size: of the model's configuration, where the processor names none.
            image_size: side of the picture in pixels; None: the model's own.

        Raises:
            SnowError: the model takes pictures that are not square, and no size is given; or the file is damaged.
        """
        try:
            return _preprocessing(self.processor, own_size, image_size)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise SnowError(f"the preprocessing of {self.spec} cannot be read: {error}") from error

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
        log.warning("%s has no %s: pictures are prepared as for ImageNet", self.spec, DESCRIBING[1])
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
    """Spell a name as `ModelFolder.spec`, without looking for a repository."""
    local = Path(spec.removeprefix(HUGGING_FACE)).expanduser()
    return HUGGING_FACE + str(local.absolute()) if local.is_dir() else spec


def _download(repository: str, patterns: tuple[str, ...], revision: str | None = None) -> Path:
    """Return the folder of a repository in the cache, with the files of these patterns.

    Args:
        revision: of what the cache has already.
    """
    from huggingface_hub import constants, errors, snapshot_download, try_to_load_from_cache

    if not REPOSITORY.fullmatch(repository):
        raise NotFoundError(f"there is no folder {repository!r}, and a repository is named hf:OWNER/NAME")
    cached = try_to_load_from_cache(repository, "config.json")
    if revision is None and isinstance(cached, str):
        return Path(cached).parent
    require_reachable(constants.ENDPOINT, HUGGING_FACE + repository)
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except errors.RepositoryNotFoundError as error:
        raise NotFoundError(
            f"there is no folder {repository!r}, and no such repository on the Hugging Face hub, or it is private"
        ) from error
    except (OSError, ValueError, errors.HTTPError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise SnowError(f"{HUGGING_FACE}{repository} cannot be downloaded: {reason}") from error


def _front_matter(card: Path) -> Mapping[str, Any]:
    """Read the metadata of a model card; one that is missing or damaged says nothing."""
    from huggingface_hub import metadata_load

    try:
        found = metadata_load(card) if card.is_file() else None
    except Exception:  # errors of YAML have no common type, and a card decides nothing
        found = None
    return found if isinstance(found, Mapping) else {}


def _preprocessing(found: Mapping[str, Any], own_size: object, image_size: int | None) -> Preprocessing:
    size, crop = found.get("size"), found.get("crop_size")
    mean, std = _normalisation(found)
    resize, crop_pct = "crop", 1.0
    if "crop_pct" in found:
        side = _side(size) or _side(own_size)
        if side is None or side < 384:
            crop_pct = float(found["crop_pct"] or 1)
        else:
            resize = "squash"  # as processors of ConvNeXt do with large pictures
    elif found.get("do_center_crop") and (crop or size):
        side = _side(crop or size)
        crop_pct = min(1.0, (side or 1) / (_side(size) or side or 1))
    else:
        side = _side(size) or _side(own_size)
        is_short_side = isinstance(size, Mapping) and "shortest_edge" in size
        resize = "crop" if is_short_side or not found else "squash"
        crop_pct = 1.0 if found else Preprocessing.crop_pct
    if image_size is None and side is None and (size or own_size):
        raise ValueError(f"pictures of {size or own_size} are not square, so name an image size")
    interpolation = RESAMPLING.get(found.get("resample", 3), "bicubic")
    return Preprocessing(image_size or side or 224, mean, std, interpolation, crop_pct, resize)


def _side(size: object) -> int | None:
    """Return the side of a square in pixels, of any spelling; None: it is no square."""
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return int(size["shortest_edge"])
        size = (size.get("height"), size.get("width"))
    if isinstance(size, list | tuple):
        return int(size[0]) if len(size) == 2 and size[0] == size[1] and size[0] else None
    return int(size) if isinstance(size, int) else None


def _normalisation(found: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std on a scale of 0..1. Processors may scale pictures otherwise, shift them, or divide twice."""
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if found.get("do_normalize", True):
        mean = tuple(found.get("image_mean") or Preprocessing.mean)
        std = tuple(found.get("image_std") or Preprocessing.std)
    rescales = found.get("do_rescale", True)
    scale = 255.0 * (found.get("rescale_factor", 1 / 255) if rescales else 1.0)
    shift = 1.0 if rescales and found.get("rescale_offset") else 0.0
    if abs(scale - 1) > 1e-6 or shift:
        mean, std = tuple((value + shift) / scale for value in mean), tuple(value / scale for value in std)
    if found.get("include_top"):  # of EfficientNet
        own = tuple(found.get("image_std") or Preprocessing.std)
        std = tuple(value * other for value, other in zip(std, own, strict=True))
    return mean, std
