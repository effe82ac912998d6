"""The memory of a service: what the process has freed is returned to the system when nobody needs it.

A process that computes keeps freed memory (`snow.process.startup`): the next pass takes it without the pages being
cleared again. After hours of large bodies, uploads and batches that is hundreds of megabytes.
"""

from __future__ import annotations

import asyncio
import gc

from snow.process.memory import process_memory, resident_bytes
from snow.serving.fairness import FairBudget

TRIM_SECONDS = 2.0
"""Time between two looks at the memory; without a body in it, the service counts as idle."""
TRIM_BYTES = 16 * 2**20
"""Memory that is worth to be returned."""


async def release_memory(bodies: FairBudget) -> None:
    """Return freed memory after large bodies, and when the service is idle, until cancelled.

    Args:
        bodies: what requests and responses hold; sets its `peak`.
    """
    floor = await asyncio.to_thread(resident_bytes)
    while True:
        await asyncio.sleep(TRIM_SECONDS)
        was_large = bodies.peak >= TRIM_BYTES and bodies.used < bodies.peak / 2
        is_idle, bodies.peak = not bodies.peak, bodies.used
        has_grown = is_idle and process_memory() - floor >= TRIM_BYTES
        if was_large or has_grown:
            gc.collect()  # errors hold, in circles, the frames in which they were raised, and the bodies in these
            resident = await asyncio.to_thread(resident_bytes)
            floor = resident if is_idle else floor
