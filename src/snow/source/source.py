"""The source: a frozen pretrained network that feeds every task (paper, section 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, Self

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.source import architectures
from snow.source.classifier import find_classifier, probe
from snow.source.description import HUGGING_FACE, is_embedded
from snow.source.dry_run import dry_run
from snow.source.fingerprint import source_fingerprint
from snow.source.network import HookedNetwork, Network, freeze_parameters, unfrozen_copy
from snow.source.preprocessing import Preprocessing
from snow.source.taps import Tap, find_taps, select_taps
from snow.source.transformers_model import TransformersModel, from_transformers

_PASS_LOCK = RLock()  # hooks of one pass must not capture another thread's maps


@dataclass(frozen=True)
class Features:
    """The result of one pass of a source over B pictures.

    Attributes:
        images: (B, 3, S, S), normalised.
        maps: name -> (B, N, H, W), for each requested tap.
        final: (B, D), input of the source's own classifier, then tokens of its last features that this does not read.
        logits: (B, C), output of the source's own classifier: task 0.
        moments: name -> (B, 2, N) float32, mean and standard deviation over space of all channels, for the taps whose
            moments were asked for. Where only selected channels were kept and asked for, those of these (B, 2, K).
    """

    images: Tensor
    maps: dict[str, Tensor]
    final: Tensor
    logits: Tensor
    moments: dict[str, Tensor] = field(default_factory=dict)

    def rows(self, start: int, stop: int) -> Features:
        """Slice the batch: B pictures -> `stop - start` pictures, as views."""
        return self if (start, stop) == (0, len(self.images)) else self.map_tensors(lambda value: value[start:stop])

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> Features:
        """Apply a function to every tensor."""
        maps, moments = ({tap: change(value) for tap, value in part.items()} for part in (self.maps, self.moments))
        return Features(change(self.images), maps, change(self.final), change(self.logits), moments)


class Source(nn.Module):
    """Compute features with a frozen CNN: (B, 3, S, S) -> `Features`.

    All its tensors are buffers, and each pass runs in eval mode without gradients. So `train()`, `requires_grad_()`, an
    optimizer or dropout cannot change its output.

    Args:
        cnn: the network, with its own classifier. Convolutional, or one that gives tokens.
        architecture: its name: "timm/NAME" or "torchvision/NAME", or "hf:" with a repository or folder.
        weights: origin of its weights: "embedded", "pretrained", "random", or the name of a weight file.
        preprocessing: how pictures are prepared for it.
        taps: names or shell patterns of the feature maps to offer; None: all that `discover` finds.
        without_taps: names or patterns of maps to leave out.
        resize: replaces that of `preprocessing`: "crop", "pad" or "squash".

    Raises:
        SnowError: the CNN has no feature maps or no classifier, or a named tap does not exist.

    Attributes:
        classifiers: names of the layers that give its logits.
        classifier_inputs: width of what these read.
        num_features: D; more than `classifier_inputs` where final features have tokens beside these.
        num_classes: C.
        transformers: what a hub keeps of a model of transformers beside its weights, as JSON values; None: it is none.
        layouts: module -> how its output is laid out as a map, for those that give no map themselves.
    """

    def __init__(
        self,
        cnn: nn.Module,
        architecture: str,
        weights: str,
        preprocessing: Preprocessing,
        taps: Sequence[str] | None = None,
        without_taps: Sequence[str] = (),
        resize: str | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.weights = weights
        self.transformers = cnn.saved if isinstance(cnn, TransformersModel) else None
        self.preprocessing = preprocessing if resize is None else replace(preprocessing, resize=resize)
        size = preprocessing.image_size
        outputs = dry_run(cnn, size)
        found = find_taps(cnn, outputs, size)
        classifier = find_classifier(cnn, size)
        if classifier is None:
            raise SnowError(f"{architecture} has no classifier: a source keeps its own head")
        probed = probe(cnn, size, outputs, found, classifier)
        ordered = [tap for tap in found if tap.name not in probed.unordered]
        if not ordered:
            raise SnowError(f"{architecture} has no map: its tokens are in another order than the picture")
        self.taps: tuple[Tap, ...] = select_taps(outputs, ordered, size, taps, without_taps)
        self._parameter_names = frozenset(name for name, _ in cnn.named_parameters())
        self.cnn = freeze_parameters(cnn).to(memory_format=torch.channels_last)  # faster for most convolutions
        self.classifiers, self.classifier_inputs, self.num_classes = classifier
        tokens = probed.final_tokens
        self.num_features = self.classifier_inputs * (1 + (0 if tokens is None else tokens.count))
        self.layouts = {name: output.layout for name, output in outputs.items() if output.layout is not None}
        self.layouts |= probed.turned
        self.network: Network = HookedNetwork(self.cnn, self.classifier, self.layouts, tokens)

    @classmethod
    def embedded(cls, image_size: int | None = None, name: str = "embedded", **options: Any) -> Self:
        """Build EfficientNet-Lite0 with ImageNet weights that come with the installation, without a download.

        Args:
            image_size: side of the picture in pixels; None: the model's own.
            name: "embedded:lite1" or "embedded:lite2" for a larger one, of the extra `sources`.
            options: `taps`, `without_taps` and `resize` of `Source`.

        Raises:
            SnowError: an unknown name, or its package is not installed.
        """
        return cls(*architectures.embedded(image_size, name), **options)

    @classmethod
    def from_timm(
        cls,
        name: str,
        pretrained: bool = True,
        weights: str | Path | None = None,
        image_size: int | None = None,
        **options: Any,
    ) -> Self:
        """Build a CNN of timm, with its pretrained weights unless others are given or `pretrained` is False.

        Args:
            weights: a local weight file.
            image_size: side of the picture in pixels; None: the model's own.
            options: `taps`, `without_taps` and `resize` of `Source`.

        Raises:
            SnowError: an unknown name, weights that cannot be reached or do not fit, or no feature maps.
        """
        return cls(*architectures.from_timm(name, pretrained and weights is None, weights, image_size), **options)

    @classmethod
    def from_torchvision(
        cls,
        name: str,
        pretrained: bool = True,
        weights: str | Path | None = None,
        image_size: int | None = None,
        **options: Any,
    ) -> Self:
        """Build a CNN of torchvision, as `from_timm`."""
        built = architectures.from_torchvision(name, pretrained and weights is None, weights, image_size)
        return cls(*built, **options)

    @classmethod
    def from_transformers(
        cls,
        name: str,
        pretrained: bool = True,
        weights: str | Path | None = None,
        image_size: int | None = None,
        **options: Any,
    ) -> Self:
        """Build an image model of Hugging Face transformers, as `from_timm`. Needs the extra `transformers`.

        Args:
            name: repository OWNER/NAME of the Hugging Face hub, or OWNER/NAME@REVISION with a branch, tag or commit, or
                a folder as `save_pretrained` writes it.

        Raises:
            SnowError: there is neither, or it is no image model: it reads text, finds objects, or reads other pictures
                than RGB.
        """
        return cls(*from_transformers(name, pretrained and weights is None, weights, image_size), **options)

    @classmethod
    def open(
        cls,
        spec: str = "embedded",
        pretrained: bool = True,
        weights: str | Path | None = None,
        image_size: int | None = None,
        **options: Any,
    ) -> Self:
        """Build a source by name.

        Args:
            spec: "embedded" or "embedded:lite1"; "NAME" or "timm/NAME" for timm; "torchvision/NAME"; "hf:OWNER/NAME",
                "hf:OWNER/NAME@REVISION" or "hf:FOLDER" for transformers.
        """
        if is_embedded(spec):
            if weights is not None:
                raise SnowError("the embedded source has its own weights: name an architecture to use a weight file")
            return cls.embedded(image_size, spec, **options)
        if spec.startswith(HUGGING_FACE):
            return cls.from_transformers(spec.removeprefix(HUGGING_FACE), pretrained, weights, image_size, **options)
        library, _, name = spec.rpartition("/")
        create = {"": cls.from_timm, "timm": cls.from_timm, "torchvision": cls.from_torchvision}.get(library)
        if create is None:
            raise SnowError(f"unknown source {spec!r}: use embedded, a timm name, torchvision/NAME or hf:OWNER/NAME")
        return create(name, pretrained, weights, image_size, **options)

    @property
    def classifier(self) -> str:
        """Name of the layer whose input the final features are."""
        return self.classifiers[-1]

    @property
    def gives_tokens(self) -> bool:
        """Whether a tap is laid out as a map, as those of transformers are."""
        return any(tap.name in self.layouts for tap in self.taps)

    @property
    def name(self) -> str:
        return f"{self.architecture} ({self.weights})"

    @property
    def learned_parameters(self) -> int:
        """Number of parameters of the CNN before it was frozen, its own head included."""
        return sum(value.numel() for name, value in self.cnn.named_buffers() if name in self._parameter_names)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the architecture, the preprocessing and every tensor; see `source_fingerprint`."""
        return source_fingerprint(
            self.architecture, self.transformers, self.preprocessing.to_dict(), self.cnn.state_dict()
        )

    def description(self) -> dict[str, Any]:
        """Describe the source for an artefact, as JSON values."""
        return {
            "architecture": self.architecture,
            "weights": self.weights,
            "preprocessing": self.preprocessing.to_dict(),
            "fingerprint": self.fingerprint,
            **({} if self.transformers is None else {"transformers": self.transformers}),
        }

    def tap(self, name: str) -> Tap:
        """Look up a tap. Raises SnowError if the source does not offer it."""
        for tap in self.taps:
            if tap.name == name:
                return tap
        raise SnowError(f"{self.name} has no tap {name!r}: there are {', '.join(tap.name for tap in self.taps)}")

    @torch.no_grad()
    def forward(self, images: Tensor, taps: Collection[str] | None = None, final: bool = True) -> Features:
        """Run one pass over images (B, 3, S, S), uint8 in 0..255 or floating point in 0..1.

        Args:
            taps: names of the maps to return; None: all.
            final: False stops the pass after the last tap; `final` and `logits` are then (B, 0).

        Raises:
            SnowError: there is no such tap.
        """
        with _PASS_LOCK:
            self.register_taps(taps)
            self.cnn.eval()
            return self.extract(images, taps, final)

    def register_taps(self, taps: Collection[str] | None = None) -> None:
        """Prepare `extract` for these taps; None: all.

        Raises:
            SnowError: there is no such tap.
        """
        self.network.register_taps([tap.name for tap in self.taps] if taps is None else taps)

    def extract(self, images: Tensor, taps: Collection[str] | None = None, final: bool = True) -> Features:
        """Run `forward` without locking or switching to eval mode, so `torch.export` and `torch.compile` can trace it.

        Call it from one thread, in eval mode, after `register_taps`.
        """
        names = [tap.name for tap in self.taps] if taps is None else list(taps)
        normalised = self.preprocessing.normalize(images)
        return Features(normalised, *self.network.run(normalised, names, final))

    def trainable_copy(self) -> nn.Module:
        """Copy the CNN with trainable parameters, as fine-tuning needs it."""
        return unfrozen_copy(self.cnn, self._parameter_names)
