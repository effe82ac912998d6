"""The paper's measurements on a GPU: Tables 5 and 8 with a ResNet-50, and Table 7 on the cars at 224 px.

    python benchmarks/gpu.py --data FOLDER --weights resnet50.safetensors     # under 20 minutes on one GPU
    python benchmarks/report.py                                               # lays the results out

Each stage is one `snow reproduce` command in a process of its own. Its results are copied to `benchmarks/results/` as
soon as it ends, so nothing is lost if a later stage fails or the time is up. Run the command again to continue.
`--tiny` runs every stage at the smallest size, on any machine, to find mistakes before a GPU is paid for.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
PAPER = "snow:preset=paper:pooling.slots=channel"
"""The paper's network with a column of weights for each channel, which Algorithm 1 to the letter does not have."""


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: of the results file, without suffix.
        table: as `snow reproduce` takes it.
        options: of `snow reproduce`, without `--out`.
    """

    name: str
    table: str
    options: tuple[str, ...]

    def command(self, folder: Path) -> list[str]:
        return [sys.executable, "-m", "snow", "reproduce", self.table, *self.options, "--out", str(folder / self.name)]


def stages(data: Path | None, weights: Path | None, tiny: bool) -> Iterator[Stage]:
    """Yield the stages, the shortest first. Table 7 needs `data`, a folder with `cars196`."""
    source, size, batch, epochs = ("test_resnet", "64", "2", "1") if tiny else ("resnet50", "224", "64", "15")
    network = ("--source", source, "--image-size", size, "--batch-size", batch)
    few = ("--methods", "fo") if tiny else ()
    for precision in ("32", "bf16"):
        options = (*network, *few, "--no-pretrained", "--precision", precision)
        yield Stage(f"table8-{source}-{precision}-gpu", "table8", options)
    yield Stage(f"table5-{source}-gpu", "table5", (*network, *few, "--no-pretrained"))
    if data is not None:
        pretrained = ("--weights", str(weights)) if weights else ("--no-pretrained",) if tiny else ()
        learning = ("--methods", "fo,snow" if tiny else f"fo,ft,snow,{PAPER}", "--epochs", epochs, "--rates", "1e-3")
        cars = ("--data", str(data), "--sets", "cars196-own-split", "--no-speeds")
        yield Stage(f"table7-cars196-{size}-gpu", "table7", (*cars, *network, *pretrained, *learning))


def run(todo: Sequence[Stage], folder: Path, results: Path, seconds: float) -> list[str]:
    """Run stages until the time is up, and return the names of those that did not end well."""
    end, failed = time.monotonic() + seconds, []
    for stage in todo:
        command = stage.command(folder)
        print(f"{stage.name}: {shlex.join(command[1:])}", file=sys.stderr, flush=True)
        try:
            code = subprocess.run(
                command, stdout=subprocess.DEVNULL, timeout=max(1.0, end - time.monotonic())
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        if code == 0:
            shutil.copyfile(folder / stage.name / f"{stage.table}.json", results / f"{stage.name}.json")
        else:
            print(f"{stage.name}: {'the time is up' if code is None else f'failed with {code}'}", file=sys.stderr)
            failed.append(stage.name)
    return failed


def main(arguments: Sequence[str] | None = None) -> str | None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with cars196, for Table 7; by default it is left out")
    parser.add_argument("--weights", type=Path, help="ImageNet weights of the ResNet-50; by default timm's are loaded")
    parser.add_argument("--folder", type=Path, default=Path("reproduction-gpu"), help="where stages keep their work")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results files go")
    parser.add_argument("--minutes", type=float, default=20.0, help="time for all stages")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, on any machine")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        return "error: there is no GPU: --tiny tries the stages without one"
    todo = list(stages(options.data, options.weights, options.tiny))
    failed = run(todo, options.folder, options.results, 60 * options.minutes)
    return f"error: not measured: {', '.join(failed)}" if failed else None


if __name__ == "__main__":
    sys.exit(main())
