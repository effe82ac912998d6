"""The tensors of a task in few bits: codes and scales in the place of large weights, see `snow.methods.low_bit`.

A file has `NAME:codes` and `NAME:scale` for a tensor NAME that is coded. The shape of the tensor is that in the network
which the configuration describes, and tells how many bits a code has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from snow.errors import DamagedError
from snow.hub.blueprint import Blueprint
from snow.hub.tensor_file import Header, StoredTensor
from snow.methods import Method
from snow.methods.low_bit import BITS, bits_of, code_shape, decode, encode, find_base
from snow.source import Source

CODES, SCALE = ":codes", ":scale"

Shapes = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Name -> type and shape of a tensor of the network."""


@dataclass(frozen=True)
class CodedTensors:
    """The tensors of a method as they are saved.

    Attributes:
        method: in the form for inference.
        bits: of the codes of weights that started from the source's.
        tensors: codes and scales in the place of large weights, and all others.
    """

    method: Method
    bits: int
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, method: Method, source: Source, bits: int) -> Self:
        """Code the large weights of a method."""
        tensors: dict[str, Tensor] = {}
        for name, value in method.state_dict().items():
            base = find_base(method, name, value.shape, source)
            chosen = bits_of(value.shape, value.dtype, base is not None, bits)
            if chosen is None:
                tensors[name] = value
            else:
                difference = value if base is None else value - base.to(value.device)
                tensors[name + CODES], tensors[name + SCALE] = encode(difference, chosen)
        return cls(method, bits, tensors)


def as_decoded(stored: Header, shapes: Shapes) -> Header:
    """Describe the tensors of a file as they are once its codes are decoded. It may be without any.

    Raises:
        DamagedError: codes or scales do not fit the network.
    """
    if not any(name.endswith(CODES) for name in stored):
        return stored
    decoded: dict[str, StoredTensor] = {}
    for name, entry in stored.items():
        whole = name.removesuffix(CODES).removesuffix(SCALE)
        if name == whole:
            decoded[name] = entry
        elif name.endswith(CODES):
            _, shape = shapes.get(whole, (None, ()))
            _code_bits(whole, stored, shape)
            decoded[whole] = StoredTensor("F32", shape, entry.start, entry.stop)
        elif whole + CODES not in stored:
            raise DamagedError(f"tensor {name} is unknown")
    return decoded


def decode_tensors(
    tensors: Mapping[str, Tensor], stored: Header, blueprint: Blueprint, source: Source
) -> dict[str, Tensor]:
    """Put weights in the place of codes and scales, all of which fit the blueprint (`as_decoded`)."""
    decoded = {name: value for name, value in tensors.items() if not name.endswith((CODES, SCALE))}
    for name in tensors.keys() - decoded.keys():
        if name.endswith(CODES):
            whole = name.removesuffix(CODES)
            _, shape = blueprint.tensors[whole]
            value = decode(tensors[name], tensors[whole + SCALE], shape, _code_bits(whole, stored, shape))
            base = find_base(blueprint.method, whole, shape, source)
            decoded[whole] = value if base is None else base + value.to(base.device)
    return decoded


def _code_bits(name: str, stored: Header, shape: tuple[int, ...]) -> int:
    """Return how many bits the codes of a tensor have.

    Raises:
        DamagedError: there is no such tensor, or its codes and scales do not fit it.
    """
    codes, scale = stored[name + CODES], stored.get(name + SCALE)
    bits = [bits for bits in BITS if len(shape) > 1 and codes.shape == code_shape(shape, bits)]
    if not bits or codes.dtype != "U8" or scale is None or (scale.dtype, scale.shape) != ("F32", shape[:1]):
        raise DamagedError(f"the codes of tensor {name} do not fit the network that config.json describes")
    return bits[0]
