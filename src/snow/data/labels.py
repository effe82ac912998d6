"""Class names as text: spellings that mean the same, cells that mean "no label", names that nothing can store."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

from snow.data.decode import shown
from snow.errors import SnowError

MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"}
    | {"NA", "NULL", "NaN", "None", "n/a", "nan", "null", "NaT", "NAN"}
)
"""Cells of a table that mean "no label": those that pandas reads as missing."""

_INVISIBLE = "\ufeff\u200b\u2060"
_QUOTES = "\"'`´‘’“”«»"
_INTEGER = re.compile(r"[+-]?\d+(\.0*)?")


def clean_name(name: str) -> str:
    """Normalise a name: Unicode NFC, no space or invisible character at either end.

    Macs write names of files in NFD, most other systems in NFC; both look alike.
    """
    text = unicodedata.normalize("NFC", name)
    while (stripped := text.strip().strip(_INVISIBLE)) != text:
        text = stripped
    return text


def whole_numbers(labels: Iterable[str]) -> dict[str, str]:
    """Map each label to its spelling as a whole number, where all are whole numbers: 1.0 -> 1.

    pandas writes a column of whole numbers with a missing one as 1.0, 2.0. Leading zeros stay: they may be codes.
    Where one label is no whole number the mapping is empty.
    """
    names = list(labels)
    if not all(_INTEGER.fullmatch(name) for name in names):
        return {}
    return {name: name.partition(".")[0] for name in names}


def is_truth(name: str) -> bool:
    """Tell whether a label is a truth value, which CSV, JSON, pandas and spreadsheets write as true, True or TRUE."""
    return name.lower() in ("true", "false")


def lookalikes(classes: Collection[str]) -> list[str]:
    """A line for each two classes that are probably one: other case, quotes, inner spaces, leading zeros."""
    first: dict[str, str] = {}
    lines = []
    for name in classes:
        other = first.setdefault(_key(name), name)
        if other != name:
            lines.append(f"classes {other!r} and {name!r} are probably one: spell them alike, or leave them as two")
    return lines


def require_text(name: str, what: str) -> str:
    """Return a name that can be stored as UTF-8.

    Raises:
        SnowError: it has bytes that are no UTF-8 (Python keeps these as surrogates) or control characters.
    """
    if any(unicodedata.category(letter) in ("Cs", "Cc") for letter in name):
        raise SnowError(f"{what} '{shown(name)}' is not text in UTF-8: rename it")
    return name


def _key(name: str) -> str:
    text = " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split()).strip(_QUOTES).strip()
    try:
        return repr(float(text)) if re.fullmatch(r"[+-]?[\d.]+", text) else text
    except ValueError:
        return text
