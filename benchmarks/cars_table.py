"""Write a table of several kinds of labels from the class names of Stanford Cars.

`python benchmarks/cars_table.py FOLDER cars.csv` reads the classes of `FOLDER/train/CLASS/` and `FOLDER/test/CLASS/`,
such as `BMW_3_Series_Sedan_2012`, and writes for each picture its `body` (one class), its `tags` (make and body) and
its `year` (a number). All three are then learned in one pass:

    snow train cars.csv --root FOLDER --tasks body,tags,year --kind tags=multi,year=number --hub HUB
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

from snow.data import picture_files

LONG_MAKES = ("AM General", "Aston Martin", "Land Rover")
"""Makes of two words."""

BODIES = {
    "cab": "pickup",
    "supercab": "pickup",
    "minivan": "van",
    **{name: name for name in ("sedan", "suv", "convertible", "coupe", "hatchback", "van", "wagon")},
}
"""Word of a class name -> body."""

WITHOUT_BODY = {
    "Acura Integra Type R": "coupe",
    "Acura TL Type-S": "sedan",
    "Buick Regal GS": "sedan",
    "Chevrolet Cobalt SS": "coupe",
    "Chevrolet Corvette Ron Fellows Edition Z06": "coupe",
    "Chevrolet Corvette ZR1": "coupe",
    "Chevrolet HHR SS": "wagon",
    "Chevrolet TrailBlazer SS": "suv",
    "Chrysler 300 SRT-8": "sedan",
    "Dodge Challenger SRT8": "coupe",
    "Dodge Charger SRT-8": "sedan",
    "FIAT 500 Abarth": "hatchback",
    "Jaguar XK XKR": "coupe",
    "Lamborghini Gallardo LP 570-4 Superleggera": "coupe",
}
"""Classes whose names do not say the body."""


class Car(NamedTuple):
    make: str
    body: str
    year: int


def parse(name: str) -> Car:
    """Read a class name: `BMW_3_Series_Sedan_2012` -> BMW, sedan, 2012."""
    model, _, year = name.replace("_", " ").rpartition(" ")
    words = model.split()
    make = next((make for make in LONG_MAKES if model.startswith(f"{make} ")), words[0])
    bodies = [BODIES[word.lower()] for word in words if word.lower() in BODIES]
    return Car(make, bodies[-1] if bodies else WITHOUT_BODY[model], int(year))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds train/CLASS/ and test/CLASS/")
    parser.add_argument("table", type=Path, help="CSV file to write; its paths start in the folder")
    parser.add_argument("--without", default="", help="makes to leave out of it, separated by commas")
    parser.add_argument("--only", default="", help="makes to keep, separated by commas; by default all")
    options = parser.parse_args()
    without, only = ({make for make in text.split(",") if make} for text in (options.without, options.only))
    count = 0
    with options.table.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "split", "make", "body", "tags", "year"))
        for part in ("train", "test"):
            for folder in sorted(path for path in (options.folder / part).iterdir() if path.is_dir()):
                car = parse(folder.name)
                if car.make in without or (only and car.make not in only):
                    continue
                for picture in picture_files(folder):
                    path = picture.relative_to(options.folder).as_posix()
                    table.writerow((path, part, car.make, car.body, f"{car.make}|{car.body}", car.year))
                    count += 1
    print(f"{options.table}: {count} pictures")


if __name__ == "__main__":
    main()
