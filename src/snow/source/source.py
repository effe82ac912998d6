"""The source: a pretrained CNN that is frozen for good and feeds every task (paper, section 2.1)."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, Self

import torch
from torch import Tensor, nn

from snow.errors import SnowError
from snow.source import architectures
from snow.source.architectures import EMBEDDED
from snow.source.network import Hooked, Network, pooled
from snow.source.preprocessing import Preprocessing
from snow.source.taps import LAYERS, Tap, choose, discover

_ONE_PASS = RLock()  # hooks of one pass must not catch another thread's maps


@dataclass(frozen=True)
class Features:
    """What one pass of a source gives for a batch of B pictures.

    Attributes:
        images: (B, 3, S, S), normalised.
        maps: tap name -> (B, C, H, W), the taps that were asked for.
        final: (B, D), what the source's own classifier sees.
        logits: (B, classes of the source), the answer of its own head: task 0.
    """

    images: Tensor
    maps: dict[str, Tensor]
    final: Tensor
    logits: Tensor

    def rows(self, start: int, stop: int) -> Features:
        """Those of some pictures that follow one another: views, which cost nothing."""
        return self if (start, stop) == (0, len(self.images)) else self.each(lambda value: value[start:stop])

    def each(self, change: Callable[[Tensor], Tensor]) -> Features:
        """With each tensor changed."""
        maps = {tap: change(value) for tap, value in self.maps.items()}
        return Features(change(self.images), maps, change(self.final), change(self.logits))


class Source(nn.Module):
    """A frozen CNN with named taps, its own head, and a fingerprint.

    It has no parameters, only buffers, and puts itself into eval mode at each pass without gradients: `train()`,
    `requires_grad_()`, an optimizer or dropout cannot change what it answers.

    Args:
        architecture: what `snow.source.architectures` builds it from: "timm/NAME" or "torchvision/NAME".
        weights: what is in it: "embedded", "pretrained", "random", or the path of a weight file.
        taps: names or shell patterns of the feature maps to offer; None offers what is discovered.
        without_taps: names or patterns to leave out.
        resize: in place of that of `preprocessing`: crop, pad or squash.

    Raises:
        SnowError: the model offers no taps, or a named tap does not exist.
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
        self.preprocessing = preprocessing if resize is None else replace(preprocessing, resize=resize)
        size = preprocessing.image_size
        found = discover(cnn, size)
        self.taps: tuple[Tap, ...] = choose(cnn, found, size, taps, without_taps)
        self._learned_names = frozenset(name for name, _ in cnn.named_parameters())
        self.cnn = _freeze(cnn).to(memory_format=torch.channels_last)  # most convolutions run faster so
        self.classifier, self.num_features, self.num_classes = self._find_classifier()
        self.network: Network = Hooked(self.cnn, self.classifier)

    @classmethod
    def embedded(cls, image_size: int | None = None, **options: Any) -> Self:
        """EfficientNet-Lite0 with ImageNet weights that come with the installation: no download."""
        return cls(*architectures.embedded(image_size), **options)

    @classmethod
    def from_timm(
        cls,
        name: str,
        pretrained: bool = False,
        weights: str | Path | None = None,
        image_size: int | None = None,
        **options: Any,
    ) -> Self:
        """A CNN of timm; `weights` is a local file, `options` go to `Source` (`taps`, `without_taps`, `resize`).

        Raises:
            SnowError: unknown name, weights that cannot be reached or do not fit, no feature maps.
        """
        return cls(*architectures.from_timm(name, pretrained, weights, image_size), **options)

    @classmethod
    def from_torchvision(
        cls,
        name: str,
        pretrained: bool = False,
        weights: str | Path | None = None,
        image_size: int | None = None,
        **options: Any,
    ) -> Self:
        """A CNN of torchvision; as `from_timm`."""
        return cls(*architectures.from_torchvision(name, pretrained, weights, image_size), **options)

    @classmethod
    def open(
        cls,
        spec: str = "embedded",
        pretrained: bool = True,
        weights: str | Path | None = None,
        image_size: int | None = None,
        **options: Any,
    ) -> Self:
        """By name: "embedded", "NAME" or "timm/NAME" for timm, "torchvision/NAME"."""
        if spec == "embedded":
            if weights is not None:
                raise SnowError("the embedded source brings its own weights: name an architecture to use a file")
            return cls.embedded(image_size, **options)
        library, _, name = spec.rpartition("/")
        create = {"": cls.from_timm, "timm": cls.from_timm, "torchvision": cls.from_torchvision}.get(library)
        if create is None:
            raise SnowError(f"unknown source {spec!r}: use embedded, a timm name, or torchvision/NAME")
        return create(name, pretrained and weights is None, weights, image_size, **options)

    @property
    def name(self) -> str:
        return f"{self.architecture} ({self.weights})"

    @property
    def learned_parameters(self) -> int:
        """How many parameters the CNN had before it was frozen, its own head included."""
        return sum(value.numel() for name, value in self.cnn.named_buffers() if name in self._learned_names)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over architecture, every tensor, and preprocessing."""
        digest = hashlib.sha256()
        digest.update(json.dumps([self.architecture, self.preprocessing.to_dict()], sort_keys=True).encode())
        for name, value in sorted(self.cnn.state_dict().items()):
            digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return f"sha256:{digest.hexdigest()}"

    def description(self) -> dict[str, Any]:
        """What an artefact keeps of its source, as JSON values."""
        return {
            "architecture": self.architecture,
            "weights": self.weights,
            "preprocessing": self.preprocessing.to_dict(),
            "fingerprint": self.fingerprint,
        }

    def tap(self, name: str) -> Tap:
        """Raises SnowError if the source does not offer it."""
        for tap in self.taps:
            if tap.name == name:
                return tap
        raise SnowError(f"{self.name} has no tap {name!r}")

    @torch.no_grad()
    def forward(self, images: Tensor, taps: Collection[str] | None = None, final: bool = True) -> Features:
        """One pass. `images`: (B, 3, S, S), uint8 in 0..255 or floating in 0..1; `taps`: None asks for all.

        With `final=False` it stops behind the last of the taps: `final` and `logits` are of shape (B, 0).

        Raises:
            SnowError: there is no such tap.
        """
        with _ONE_PASS:
            self.listen(taps)
            self.cnn.eval()
            return self.observe(images, taps, final)

    def listen(self, taps: Collection[str] | None = None) -> None:
        """Makes `observe` ready to give these maps; None: those of all taps.

        Raises:
            SnowError: there is no such tap.
        """
        self.network.listen([tap.name for tap in self.taps] if taps is None else taps)

    def observe(self, images: Tensor, taps: Collection[str] | None = None, final: bool = True) -> Features:
        """`forward` without what a compiler cannot see through: for one thread, in eval mode, after `listen`."""
        wanted = [tap.name for tap in self.taps] if taps is None else list(taps)
        normalised = self.preprocessing.normalize(images)
        return Features(normalised, *self.network.run(normalised, wanted, final))

    def trainable_copy(self) -> nn.Module:
        """A trainable copy of the whole CNN: what fine-tuning starts from."""
        cnn = copy.deepcopy(self.cnn)
        for module in cnn.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        for name in self._learned_names:
            owner, _, leaf = name.rpartition(".")
            module = cnn.get_submodule(owner)
            value = module._buffers.pop(leaf)
            assert value is not None
            module.register_parameter(leaf, nn.Parameter(value))
        return cnn

    def _find_classifier(self) -> tuple[str, int, int]:
        """Name, input width and output width of the last layer that makes the source's logits."""
        seen: list[tuple[str, Tensor, Tensor]] = []
        hooks = [
            module.register_forward_hook(lambda _m, inputs, output, name=name: seen.append((name, inputs[0], output)))
            for name, module in self.cnn.named_modules()
            if isinstance(module, LAYERS)
        ]
        size = self.preprocessing.image_size
        with torch.no_grad():
            logits = self.cnn.eval()(torch.zeros(1, 3, size, size))
        for hook in hooks:
            hook.remove()
        for name, entered, left in reversed(seen):
            if pooled(left).shape == logits.shape:
                return name, pooled(entered).shape[1], logits.shape[1]
        raise SnowError(f"{self.architecture} has no classifier: a source keeps its own head")


def _freeze(cnn: nn.Module) -> nn.Module:
    """Turns every parameter into a buffer, in place."""
    for module in cnn.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                del module._parameters[name]
                module.register_buffer(name, parameter.detach())
    return cnn


def meta_source(spec: str, image_size: int | None, taps: Sequence[str] = (), without: Sequence[str] = ()) -> Source:
    """A source without weights, to ask for its shapes.

    Raises:
        SnowError: as `Source.open`.
    """
    name = EMBEDDED if spec == "embedded" else spec
    options = {"taps": taps or None, "without_taps": without}
    try:
        with torch.device("meta"):
            return Source.open(name, False, None, image_size, **options)
    except (RuntimeError, SnowError):  # some CNNs read their tensors while they are built
        return Source.open(name, False, None, image_size, **options)
