"""`snow taps` and `snow params`: the feature maps of a CNN, and the parameters that tasks add to it."""

from __future__ import annotations

from dataclasses import asdict

from snow.cli.app import command
from snow.cli.options import Json, Names, Numbers
from snow.cli.output import print_json, print_table
from snow.experiments.params import count_parameters
from snow.methods.variant import Variant
from snow.source import meta_source

taps = command("taps", "snow taps resnet50 --without-taps 'layer1.*'")
params = command("params", "snow params --source resnet50 --classes 101,47,40,196,200")


@taps.default
def taps_command(
    source: str = "embedded",
    /,
    *,
    image_size: int | None = None,
    pretrained: bool = False,
    taps: Names = (),
    without_taps: Names = (),
    json: Json = False,
) -> None:
    """List the feature maps that a source offers to tasks: name, channels and stride. No weights are downloaded.

    Args:
        source: embedded, the name of a timm model, torchvision/NAME, hf:OWNER/NAME or hf:FOLDER.
        pretrained: has no effect, because maps do not depend on weights; it is here for commands that were copied.
        image_size: side of the images in pixels; by default that of the CNN.
        taps: feature maps to include, as comma-separated names or patterns.
        without_taps: feature maps to leave out.
        json: print a list of {"name", "channels", "stride"}.
    """
    offered = meta_source(source, image_size, taps, without_taps).taps
    entries = [{name: value for name, value in asdict(tap).items() if name != "block"} for tap in offered]
    if json:
        print_json(entries)
    else:
        print_table(("tap", "channels", "stride"), [tuple(entry.values()) for entry in entries])


@params.default
def params_command(
    *,
    classes: Numbers,
    source: str = "embedded",
    image_size: int | None = None,
    variants: str = "snow",
    json: Json = False,
) -> None:
    """Count the parameters that tasks add to their source. Nothing is downloaded.

    Methods and subscriptions are counted as in Tables 5 and 6 of the paper, with the paper's delta. `--variants` are
    counted as `snow train` and `snow compare` build them.

    Args:
        classes: comma-separated numbers of classes, one per task.
        source: embedded, the name of a timm model, torchvision/NAME, hf:OWNER/NAME or hf:FOLDER.
        image_size: side of the images in pixels; by default that of the CNN.
        variants: comma-separated methods with options, such as `snow:width=0.25,lora:rank=4`.
        json: print {"source", "methods", "subscriptions", "variants"}.
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
        print_table((kind, "per task", f"with {counts['source']['name']}"), rows)
        print()
    overheads = [(name, f"{entry['overhead']:,}") for name, entry in counts["subscriptions"].items()]
    print_table(("subscriptions of snow", "all tasks"), overheads)
