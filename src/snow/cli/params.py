"""`snow params`."""

from __future__ import annotations

from snow.cli.app import command
from snow.cli.options import Json, Numbers
from snow.cli.output import print_json, print_table
from snow.experiments.params import count_parameters
from snow.methods.variant import Variant
from snow.source import meta_source

app = command("params", "snow params --source resnet50 --classes 101,47,40,196,200")


@app.default
def params(
    *,
    classes: Numbers,
    source: str = "embedded",
    image_size: int | None = None,
    variants: str = "snow",
    json: Json = False,
) -> None:
    """How many parameters some tasks need beside their source, with random weights: nothing is downloaded.

    Methods and subscriptions are counted as in Tables 5 and 6 of the paper, with its delta; `--variants` are counted
    as `snow train` and `snow compare` build them.

    Args:
        classes: of each task, with commas between.
        source: embedded, the name of a timm model, or torchvision/NAME.
        image_size: side of the pictures in pixels; by default the CNN's own.
        variants: with commas between; `snow:width=0.25,lora:rank=4` are methods with options.
        json: print plain counts: {"source", "methods", "subscriptions", "variants"}.
    """
    counts = count_parameters(meta_source(source, image_size), classes, Variant.parse(variants))
    if json:
        print_json(counts)
        return
    for kind in ("methods", "variants"):
        rows = [
            (name, ", ".join(f"{count:,}" for count in entry["per_task"]), f"{entry['total']:,}")
            for name, entry in counts[kind].items()
        ]
        print_table((kind, "each task", f"with {counts['source']['name']}"), rows)
        print()
    overheads = [(name, f"{entry['overhead']:,}") for name, entry in counts["subscriptions"].items()]
    print_table(("subscriptions of snow", "all tasks"), overheads)
