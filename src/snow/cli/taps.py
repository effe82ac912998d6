"""`snow taps`."""

from __future__ import annotations

from dataclasses import asdict

from snow.cli.app import command
from snow.cli.options import Json, Names
from snow.cli.output import print_json, print_table
from snow.source import meta_source

app = command("taps", "snow taps resnet50 --without-taps 'layer1.*'")


@app.default
def taps(
    source: str = "embedded",
    /,
    *,
    image_size: int | None = None,
    taps: Names = (),
    without_taps: Names = (),
    json: Json = False,
) -> None:
    """Name, channels and stride of each feature map, with random weights: nothing is downloaded.

    Args:
        source: embedded, the name of a timm model, or torchvision/NAME.
        image_size: side of the pictures in pixels; by default the CNN's own.
        taps: feature maps to offer, names or patterns, with commas between.
        without_taps: feature maps to leave out.
        json: print a list of {"name", "channels", "stride"}.
    """
    found = meta_source(source, image_size, taps, without_taps).taps
    entries = [{name: value for name, value in asdict(tap).items() if name != "block"} for tap in found]
    if json:
        print_json(entries)
    else:
        print_table(("tap", "channels", "stride"), [tuple(entry.values()) for entry in entries])
