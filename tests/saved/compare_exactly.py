"""Says which saved tasks do not answer bit for bit as they did: `python tests/saved/compare_exactly.py`.

It means something on the processor that the answers were recorded on, and with the same torch: run it before and after
a change there. It ends with 1 if an answer differs, and says by how much.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from small import HERE, HUBS, answers, unpack


def differing() -> list[str]:
    """A line for each task whose answer is not the recorded one."""
    expected = load_file(HERE / "expected.safetensors")
    with tempfile.TemporaryDirectory() as place:
        for name in HUBS:
            unpack(name, Path(place))
        found = answers(Path(place))
    lines = [f"{name} is only on one side" for name in sorted(found.keys() ^ expected.keys())]
    for name in sorted(found.keys() & expected.keys()):
        if not torch.equal(found[name], expected[name]):
            lines.append(f"{name} is off by up to {(found[name] - expected[name]).abs().max():.3g}")
    return lines


if __name__ == "__main__":
    torch.set_num_threads(1)
    told = differing()
    print("\n".join(told) or "every answer is the same to the bit")
    sys.exit(bool(told))
