"""torchvision is imported without the compiler of torch, and both work as ever afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEFERRED = """
import sys, torch
disable = torch.compiler.disable
import snow.process.vision
assert "torch._dynamo" not in sys.modules and "torch._dynamo.utils" not in sys.modules
assert torch.compiler.disable is disable
import snow.hub.artifact, timm
assert "torch._dynamo" not in sys.modules, "timm or snow imports it"
"""

BLUEPRINT = """
from snow.hub.blueprint import _NoInitialValues
with torch.device("meta"), _NoInitialValues():
    for numbers in (torch.arange(5, dtype=torch.int32), torch.arange(2, 7), torch.arange(0, 10, 2)):
        assert (numbers.shape, numbers.is_meta) == ((5,), True)
    assert torch.arange(5, dtype=torch.int32).dtype == torch.int32
assert "sympy" not in sys.modules
"""

AFTERWARDS = """
import torchvision
from torchvision import ops, tv_tensors
align = sys.modules["torchvision.ops.roi_align"]
assert "torch._dynamo" not in sys.modules
assert align.is_compile_supported("cpu") in (True, False)
from torch._dynamo.utils import is_compile_supported
assert align.is_compile_supported("cpu") == is_compile_supported("cpu")
assert ops.roi_align(torch.rand(1, 3, 8, 8), torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]]), 2).shape == (1, 3, 2, 2)
image = tv_tensors.Image(torch.zeros(3, 2, 2))
assert type(tv_tensors.wrap(torch.ones(3, 2, 2), like=image)) is tv_tensors.Image
assert torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(2)).tolist() == [1, 1]
"""

NEEDED_AT_ONCE = """
import torch, sys
from snow.process.vision import deferred_compiler
with deferred_compiler():
    from torch._dynamo.utils import counters
    import torch._dynamo.utils
assert sys.modules["torch._dynamo.utils"].counters is counters
assert torch._dynamo.utils.counters is counters
assert sys.modules["torch._dynamo.utils"].__file__
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(DEFERRED + BLUEPRINT + AFTERWARDS, id="deferred"),
        pytest.param(NEEDED_AT_ONCE, id="needed at once", marks=pytest.mark.slow),
    ],
)
def test_the_compiler_is_imported_when_it_is_used(program: str) -> None:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
