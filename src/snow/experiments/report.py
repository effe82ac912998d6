"""Write the report of an evaluation: tables, plots, the worst mistakes, and every answer."""

from __future__ import annotations

import csv
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from snow.data.pictures import Item, load
from snow.errors import SnowError
from snow.experiments.plots.figure import new_figure
from snow.experiments.plots.report import draw_confusion, draw_numbers, draw_reliability, draw_tags
from snow.kinds import AnswerRow, LabelKind, Metrics
from snow.store import atomic_folder, write_json

SHOWN = 24
"""Pictures on a contact sheet."""

COLUMNS, THUMBNAIL, CAPTION = 6, 160, 44
"""Of a contact sheet: pictures in a row, their side, and the height of the text below each, in pixels."""


def write_report(folder: Path, task: str, kind: LabelKind, items: Sequence[Item], metrics: Metrics) -> dict[str, Any]:
    """Write the report of one task into a folder, which replaces an earlier report as one.

    Args:
        items: the pictures that were measured, in the order of `metrics.rows()`.

    Returns:
        What `report.json` holds.

    Raises:
        SnowError: the folder cannot be written, or holds something else; matplotlib is missing.
    """
    require_report_folder(folder)
    answers = list(zip(items, metrics.rows(), strict=True))
    worst = sorted((entry for entry in answers if entry[1].mistake > 0), key=lambda entry: -entry[1].mistake)
    unsure = [entry for entry in answers if entry[1].confidence is not None]
    unsure.sort(key=lambda entry: entry[1].confidence or 0.0)
    results: dict[str, Any] = {
        "task": task,
        "kind": kind.name,
        **metrics.to_dict(),
        **metrics.details(),
        **metrics.curves(),
        "mistakes": [_described(*entry) for entry in worst[:SHOWN]],
        "doubtful": [_described(*entry) for entry in unsure[:SHOWN]],
    }
    with atomic_folder(folder, replace=True) as new:
        write_json(new / "report.json", results)
        _write_answers(new / "answers.csv", kind, answers)
        _write_names(new / "classes.csv", results.get("per_class", {}))
        _draw(new, metrics, results)
        for name, entries in (("mistakes", worst), ("doubtful", unsure)):
            if entries:
                contact_sheet(entries[:SHOWN]).save(new / f"{name}.jpg", quality=88)
        (new / "report.html").write_text(_page(task, kind, results, new), "utf-8")
    return results


def require_report_folder(folder: Path) -> None:
    """Check that a report can be written.

    Raises:
        SnowError: the folder holds something else; matplotlib is missing.
    """
    new_figure(1, 1)
    if folder.exists() and not (folder / "report.json").exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SnowError(f"{folder} holds something else than a report: name another folder")


def contact_sheet(entries: Sequence[tuple[Item, AnswerRow]]) -> Image.Image:
    """Lay out pictures in rows, each with its file name, label and answer below."""
    rows = -(-len(entries) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * THUMBNAIL, rows * (THUMBNAIL + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (item, row) in enumerate(entries):
        x, y = place % COLUMNS * THUMBNAIL, place // COLUMNS * (THUMBNAIL + CAPTION)
        picture = Image.fromarray(load(item).permute(1, 2, 0).numpy())
        picture.thumbnail((THUMBNAIL - 4, THUMBNAIL - 4))
        sheet.paste(picture, (x + (THUMBNAIL - picture.width) // 2, y + (THUMBNAIL - picture.height) // 2))
        sure = "" if row.confidence is None else f" {100 * row.confidence:.0f}%"
        lines = (_name(item), f"is {row.label}", f"answer {row.answer}{sure}")
        for line, text in enumerate(lines):
            draw.text((x + 3, y + THUMBNAIL + 13 * line), _fitting(text), fill="black" if line else "#555")
    return sheet


def _fitting(text: str, most: int = 26) -> str:
    """Shorten text to the width of a thumbnail; the font of Pillow has no letters beyond Latin-1."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    return text if len(text) <= most else f"{text[: most - 2]}.."


def _name(item: Item) -> str:
    return item.name if isinstance(item, Path) else str(item)


def _described(item: Item, row: AnswerRow) -> dict[str, Any]:
    return {"image": str(item), "label": row.label, "answer": row.answer, "confidence": row.confidence}


def _write_answers(path: Path, kind: LabelKind, answers: Sequence[tuple[Item, AnswerRow]]) -> None:
    tags = list(kind.names) if answers and answers[0][1].values else []
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("image", "label", "answer", "right", "mistake", "confidence", *tags))
        for item, row in answers:
            confidence = "" if row.confidence is None else f"{row.confidence:.6f}"
            values = (f"{row.values[tag]:.6f}" for tag in tags)
            table.writerow(
                (item, row.label, row.answer, int(row.mistake == 0), f"{row.mistake:.6g}", confidence, *values)
            )


def _write_names(path: Path, per_class: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a row for each class, grade or tag, with the confusion matrix in the last columns."""
    if not per_class:
        return
    figures = [key for key in next(iter(per_class.values())) if key != "predicted"]
    others = list(per_class) if all("predicted" in entry for entry in per_class.values()) else []
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("name", *figures, *(f"as {name}" for name in others)))
        for name, entry in per_class.items():
            values = ("" if entry[key] is None else entry[key] for key in figures)
            table.writerow((name, *values, *(entry["predicted"].get(other, 0) for other in others)))


def _draw(folder: Path, metrics: Metrics, results: Mapping[str, Any]) -> None:
    per_class = results.get("per_class", {})
    if per_class and all("predicted" in entry for entry in per_class.values()):
        draw_confusion(per_class, folder / "confusion.png")
    elif per_class:
        draw_tags(per_class, folder / "tags.png")
    if "reliability" in results:
        draw_reliability(results["reliability"], folder / "reliability.png")
    if results["kind"] == "number" and metrics.images:
        rows = metrics.rows()
        draw_numbers([float(row.label) for row in rows], [float(row.answer) for row in rows], folder / "numbers.png")


def _page(task: str, kind: LabelKind, results: Mapping[str, Any], folder: Path) -> str:
    """Write one page with all of it."""
    figures = "".join(
        f"<tr><th>{html.escape(figure.title)}<td>{figure.text(results.get(figure.key))}" for figure in kind.figures
    )
    titles = {
        "confusion.png": "Confusion matrix",
        "tags.png": "Average precision by tag",
        "reliability.png": "Reliability",
        "numbers.png": "Answers against labels",
        "mistakes.jpg": "Worst mistakes",
        "doubtful.jpg": "Most doubtful pictures",
    }
    sections = "".join(
        f'<h2>{title}</h2><img src="{name}" alt="{title}">'
        for name, title in titles.items()
        if (folder / name).exists()
    )
    tables = "".join(f'<li><a href="{path.name}">{path.name}</a>' for path in sorted(folder.glob("*.csv")))
    name = html.escape(task)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
        "<style>body{font:16px system-ui;margin:2rem;max-width:70rem}img{max-width:100%}th{text-align:left;"
        f"padding-right:2rem}}</style><h1>{name}</h1><p>{html.escape(kind.describe())}; {results['images']} images</p>"
        f"<table>{figures}</table>{sections}<h2>Tables</h2><ul>{tables}</ul></html>"
    )
