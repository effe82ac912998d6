"""Numbers as people write them: with a decimal comma, as a fraction, with a unit behind or a currency in front."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from snow.kinds.kind import BadCellError

_CURRENCY = "[$\u20a0-\u20bf£¥]"
_DIGITS = r"(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d{1,3})?"
_NUMBER = rf"(?P<sign>[+\-−]?)(?:(?P<before>{_CURRENCY})\s*)?(?P<number>{_DIGITS})(?:\s*/\s*(?P<divisor>\d+))?"
_UNIT = rf"(?:[^\W\d_]|[%‰°′″'\"]|{_CURRENCY})(?:[^\W\d_]|[%‰°′″'\"²³ /·*^().-]|(?<=[^\W\d_]|\^)[23](?!\d))*"
QUANTITY = re.compile(rf"{_NUMBER}\s*(?P<unit>{_UNIT})?")
"""A number, be it a fraction or with a unit. A unit begins with a letter or a sign, and has no digits but 2 or 3 behind
a letter, so that dates, times, versions and ranges are no numbers."""

_THOUSANDS = re.compile(r"[1-9]\d{0,2},\d{3}")

MEASURES = frozenset(
    (  # noqa: SIM905  one a line would hide what there is
        "nm um μm mm cm dm m km in ft yd mi ' \" ′ ″ mm² cm² m² km² mm³ cm³ m³ mm2 cm2 m2 km2 mm3 cm3 m3 "
        "ml mL cl dl l L hl ug mg g kg t lb lbs oz ms s min h m/s km/h mph Hz kHz MHz GHz rpm K °C °F ° "
        "mV V kV mA A mW W kW MW kWh Wh Ω N kN Pa hPa kPa MPa bar mbar psi J kJ kcal cal dB lx lm cd px dpi mol "
        "ppm ppb % ‰ EUR USD GBP CHF JPY"
    ).split()
)
"""Units that are surely some; with one of these whole numbers are numbers too."""

MOST_DECIMALS = 4
MOST_PARTS = 20
"""A grade is written with so many decimals, or as a fraction with a divisor up to this."""


class Quantity(NamedTuple):
    """A number and its unit, "" for none."""

    value: float
    unit: str = ""

    @property
    def is_whole(self) -> bool:
        return self.value % 1 == 0

    @property
    def key(self) -> tuple[str, str]:
        """The same for spellings of one quantity: 1/3 and 0.33333334, 4,2 mm and 4.2mm."""
        return f"{self.value:.7g}", unit_key(self.unit)


def quantity(cell: str) -> Quantity | None:
    """Read a cell; None if it is no number."""
    try:
        return _parse(0, cell, "." in cell)
    except BadCellError:
        return None


def read_quantities(cells: Sequence[str]) -> list[Quantity | None]:
    """Read a column, None for an empty cell. A comma is a decimal comma where no number of the column has a point.

    Raises:
        BadCellError: a cell is not a finite number, or its comma may as well divide thousands.
    """
    require_decimals(cells)
    has_points = any("." in number for number in _numbers(cells))
    return [_parse(place, cell, has_points) if cell else None for place, cell in enumerate(cells)]


def require_decimals(cells: Sequence[str]) -> None:
    """Check that the commas of a column are decimal commas.

    Raises:
        BadCellError: they may as well divide thousands, as in 1,234.
    """
    numbers = _numbers(cells)
    commas = [place for place, number in enumerate(numbers) if "," in number]
    if commas and all(_THOUSANDS.fullmatch(numbers[place]) for place in commas):
        whole, decimal = (numbers[commas[0]].replace(",", mark) for mark in ("", "."))
        reason = f"{cells[commas[0]]!r} may be {whole} or {decimal}: write it as one of these"
        raise BadCellError(commas[0], reason, commas[1:])


def unit_key(unit: str) -> str:
    """The same for spellings of one unit that look alike, such as both micro signs."""
    return unicodedata.normalize("NFKC", unit)


def is_measure(cell: str) -> bool:
    """Tell whether a number has a unit that is surely one: `5 mm`, `5mm`, `€ 5`, but not `4A`, which may be a code."""
    matched = QUANTITY.fullmatch(cell)
    if matched is None:
        return False
    unit = (matched["unit"] or "").strip()
    if matched["before"] or re.fullmatch(_CURRENCY, unit):
        return True
    is_code = len(unit) == 1 and unit.isalpha() and cell[-2].isdigit() and "." not in cell and "," not in cell
    return (unit in MEASURES or unit_key(unit) in MEASURES) and not is_code


def readable(cell: str) -> str:
    """Write a number so that it is read with ease, the same for all its spellings: 0.3333333 -> 1/3, 1/2 -> 0.5."""
    read = quantity(cell)
    is_code = read is not None and read.is_whole and bool(read.unit) and not is_measure(cell)
    if read is None or is_code or cell.isdigit():  # 1st, 4A and 01 stay as they are
        return cell
    return f"{_text(read)} {read.unit}".strip()


def _text(read: Quantity) -> str:
    value, short = read.value, f"{read.value:.7g}"
    if "e" in short or len(short.partition(".")[2]) <= MOST_DECIMALS:
        return str(int(value)) if read.is_whole else short
    fraction = Fraction(value).limit_denominator(MOST_PARTS)
    return str(fraction) if math.isclose(float(fraction), value, rel_tol=1e-6) else short


def _numbers(cells: Sequence[str]) -> list[str]:
    """Cut the number out of each cell, "" where there is none."""
    return [matched["number"] if (matched := QUANTITY.fullmatch(cell)) else "" for cell in cells]


def _parse(place: int, cell: str, has_points: bool) -> Quantity:
    matched = QUANTITY.fullmatch(cell)
    if matched is None or ("," in matched["number"] and has_points) or (matched["before"] and matched["unit"]):
        raise BadCellError(place, f"{cell!r} is not a number")
    value = float(matched["number"].replace(",", "."))
    if matched["divisor"] is not None:
        if not int(matched["divisor"]):
            raise BadCellError(place, f"{cell!r} is not a number")
        value /= int(matched["divisor"])
    if not math.isfinite(value):
        raise BadCellError(place, f"{cell!r} is not a finite number")
    unit = matched["before"] or " ".join((matched["unit"] or "").split())
    return Quantity(-value if matched["sign"] in ("-", "−") else value, unit)


def require_one_unit(cells: Sequence[Quantity | None], unit: str) -> str:
    """Return the unit of a column, "" for none, as it is written first.

    Args:
        unit: the one that the user named; cells without a unit may have it too.

    Raises:
        BadCellError: there are several.
    """
    written = [(place, cell.unit) for place, cell in enumerate(cells) if cell is not None]
    counts = Counter(unit_key(name) for _, name in written)
    usual = unit_key(unit) if unit or not counts else counts.most_common(1)[0][0]
    strangers = [(place, name) for place, name in written if unit_key(name) not in ({usual, ""} if unit else {usual})]
    if not strangers:
        return unit or next((name for _, name in written), "")
    place, odd = strangers[0]
    has = f"unit {odd!r}" if odd else "no unit"
    others = f"the unit is {unit!r}" if unit else f"{counts[usual]} others have {repr(usual) if usual else 'none'}"
    raise BadCellError(
        place, f"a number with {has}, and {others}: write all in one unit", [n for n, _ in strangers[1:]]
    )
