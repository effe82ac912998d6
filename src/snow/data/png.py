"""What Pillow cannot do with a PNG: more text than it allows, and 16-bit colour."""

from __future__ import annotations

import struct

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BESIDE = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
"""Chunks that no pixel depends on: text and colour profile."""


def without_text(content: bytes) -> bytes | None:
    """Copy a PNG without the chunks in `BESIDE`; None if it has none of them or is no PNG.

    Pillow refuses a PNG with more than 1 MB of compressed text or colour profile, which some generators and scanners
    write. A chunk is length, type, content and CRC (PNG specification, section 5.3).
    """
    if not content.startswith(SIGNATURE):
        return None
    kept, position, dropped = [SIGNATURE], len(SIGNATURE), False
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if kind in BESIDE:
            dropped = True
        else:
            kept.append(content[position:end])
        position = end
    return b"".join(kept) if dropped else None
