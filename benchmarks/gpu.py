"""The paper's measurements on a GPU: Tables 5 and 8 with a ResNet-50 in fp32 and bf16, Table 7 on the cars at 224 px.

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
LETTER = "snow:preset=paper"
"""The paper's network; for speeds it does not matter how it learns."""

PAPER = f"{LETTER}:pooling.slots=channel"
"""The same with a column of weights for each channel, which Algorithm 1 to the letter does not have."""


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
    """Yield the stages, the most telling first. Table 7 needs `data`, a folder with `cars196`.

    The paper's SNOW-256 and SNOW-128 are probably named after their batches. With 128 images every method is
    measured, with 256 the paper's network beside fine-tuning.
    """
    source, size = ("test_resnet", "64") if tiny else ("resnet50", "224")
    network = ("--source", source, "--image-size", size)
    for batch, precision in ((128, "32"), (128, "bf16"), (0, "32"), (0, "bf16"), (256, "32"), (256, "bf16")):
        methods = ("--methods", "fo") if tiny else ("--methods", f"ft,{LETTER}") if batch == 256 else ()
        options = (*network, "--batch-size", "2" if tiny else str(batch or 32), *methods, "--no-pretrained")
        table = "table8" if batch else "table5"
        name = "-".join(filter(None, (table, source, str(batch or ""), precision, "gpu")))
        if batch == 256 and precision == "32" and data is not None:
            yield _cars(data, weights, tiny, network)
        yield Stage(name, table, (*options, "--precision", precision))


def _cars(data: Path, weights: Path | None, tiny: bool, network: tuple[str, ...]) -> Stage:
    pretrained = ("--weights", str(weights)) if weights else ("--no-pretrained",) if tiny else ()
    methods, epochs, batch = ("fo,snow", "1", "2") if tiny else (f"fo,ft,snow,{PAPER}", "15", "64")
    learning = ("--methods", methods, "--epochs", epochs, "--batch-size", batch, "--rates", "1e-3")
    cars = ("--data", str(data), "--sets", "cars196-own-split", "--no-speeds")
    return Stage(f"table7-cars196-{network[-1]}-gpu", "table7", (*cars, *network, *pretrained, *learning))


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
