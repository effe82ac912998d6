"""What the commands of `snow bench` are part of."""

from __future__ import annotations

from snow.cli.app import command

app = command("bench", "snow bench training --methods fo,ft,snow")
