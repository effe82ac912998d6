"""What the commands of `snow hub` are part of."""

from __future__ import annotations

from snow.cli.app import command

DIFFERENT = 1
"""Exit code of `snow hub verify` and `snow hub diff` where something differs."""

app = command("hub", "snow hub list my-hub")
