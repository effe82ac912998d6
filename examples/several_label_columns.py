"""Train several tasks together from a table with one label column per task.

By default this writes images of handwritten digits and a table with three label columns, `digit`, `parity` and `size`:

    python examples/several_label_columns.py
    python examples/several_label_columns.py --table labels.csv --columns colour,brand,damage --hub my-hub --epochs 20

The table has a column `path`, relative to the table's folder, and may have a column `split` (train or test).
A cell may be empty: the image then has no label for that task.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import snow
from snow.data.samples import write_samples


def write_table(folder: Path) -> Path:
    """Write `labels.csv` for the images of digits in `folder`; every tenth image has no label for `size`."""
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "digit", "parity", "size"])
        for number, image in enumerate(sorted(folder.glob("*/*/*.png"))):
            split, digit = image.parts[-3:-1]
            size = "" if number % 10 == 0 else "large" if int(digit) > 4 else "small"
            writer.writerow([image.relative_to(folder), split, digit, "odd" if int(digit) % 2 else "even", size])
    return folder / "labels.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help=".csv or .parquet file; default: a table of digits")
    parser.add_argument("--columns", default="digit,parity,size", help="label columns, separated by commas")
    parser.add_argument("--hub", type=Path, default=Path("example-hub"), help="folder of the hub")
    parser.add_argument("--image-size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()

    hub = snow.Hub.create(args.hub, snow.Source.embedded(args.image_size))
    table = args.table or write_table(write_samples("digits", args.hub / "samples"))
    dataset = snow.open_dataset(table, labels=args.columns.split(","))

    # One delta per column. All of them read the same forward pass of the source, in training too.
    recipe = snow.Recipe(epochs=args.epochs, lr=3e-3, augment="none")
    tasks = snow.train(hub, dataset, recipe=recipe, runtime=snow.Runtime(workers=0), replace=True)
    for task in tasks:
        print(f"{task.name}: {len(task.classes)} classes, top-1 accuracy {task.metrics['test']['top1']:.1%}")

    image = dataset.test.items[0]
    [predictions] = hub.predict([image], tasks=[task.name for task in tasks])
    print(image, {name: prediction.classes[0] for name, prediction in predictions.items()})


if __name__ == "__main__":
    main()
