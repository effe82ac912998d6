"""`python -m snow`, and `torchrun … -m snow` for several machines."""

from __future__ import annotations

import sys

from snow.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
