"""How long threads that compute wait for each other before they sleep.

At the end of every operation of a network its threads wait for the last of them. As long as each has a core of its own,
spinning is fastest. Where another process wants the cores, those who spin keep from them the one that all wait for.
"""

from __future__ import annotations

import os

SPINS = 4000
"""Times round the loop, where GNU's OpenMP, which torch uses on Linux, takes 300,000 (its manual, `GOMP_SPINCOUNT`)."""


def wait_briefly() -> None:
    """For this process, and those that it starts from now on; to be called before torch is imported.

    The command line does it. Nothing is changed where the environment says already how to wait (`GOMP_SPINCOUNT`,
    `OMP_WAIT_POLICY`).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
