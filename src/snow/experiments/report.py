"""Write the report of an evaluation: tables, plots, the worst mistakes, and every answer."""

from __future__ import annotations

import csv
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from snow.data.pictures import Item, load
from snow.errors import SnowError
from snow.experiments.plots.figure import new_figure
from snow.experiments.plots.report import draw_confusion, draw_numbers, draw_reliability, draw_tags
from snow.kinds import AnswerRow, LabelKind, Metrics, NumberKind
from snow.store import atomic_folder, write_json

SHOWN = 24
"""Pictures on a contact sheet."""

COLUMNS, THUMBNAIL, LINE, FONT = 6, 180, 16, 13
"""Of a contact sheet: pictures in a row, their side, and the height of a line below each and of its font, in pixels."""

MOST_ROWS = 500
"""Classes in the table of a page; `classes.csv` has all."""


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
    unit = kind.unit if isinstance(kind, NumberKind) else ""
    with atomic_folder(folder, replace=True) as new:
        write_json(new / "report.json", results)
        _write_answers(new / "answers.csv", kind, answers)
        _write_names(new / "classes.csv", results.get("per_class", {}))
        _draw(new, metrics, results, unit)
        for name, entries in (("mistakes", worst), ("doubtful", unsure)):
            if entries:
                contact_sheet(entries[:SHOWN], unit).save(new / f"{name}.jpg", quality=88)
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


def contact_sheet(entries: Sequence[tuple[Item, AnswerRow]], unit: str) -> Image.Image:
    """Lay out pictures in rows, each with its file name, label and answer below, behind which the unit stands."""
    pictures = []
    for item, _ in entries:
        pictures.append(Image.fromarray(load(item).permute(1, 2, 0).numpy()))
        pictures[-1].thumbnail((THUMBNAIL - 6, THUMBNAIL - 6))
    starts = range(0, len(entries), COLUMNS)
    heights = [max(picture.height for picture in pictures[start : start + COLUMNS]) for start in starts]
    text_height = 3 * LINE + 14
    sheet = Image.new("RGB", (COLUMNS * THUMBNAIL, sum(heights) + len(heights) * text_height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for place, ((item, row), picture) in enumerate(zip(entries, pictures, strict=True)):
        number = place // COLUMNS
        x, y = place % COLUMNS * THUMBNAIL + 3, sum(heights[: number + 1]) + number * text_height
        sheet.paste(picture, (x, y - picture.height))
        for line, text in enumerate((_name(item), *_told(row, unit))):
            text = _fitting(text, THUMBNAIL - 8, font)
            draw.text((x, y + 2 + LINE * line), text, fill="black" if line else "#555", font=font)
    return sheet


def _told(row: AnswerRow, unit: str) -> tuple[str, str]:
    """Say label and answer; of tags, the difference between them."""
    if not row.values:
        sure = "" if row.confidence is None else f" {100 * row.confidence:.0f}%"
        return f"is {row.label} {unit}".strip(), f"answer {row.answer} {unit}".strip() + sure
    label, answer = ({tag for tag in text.split("|") if tag} for text in (row.label, row.answer))
    missed = [name for name in row.values if name in label - answer]
    wrong = [name for name in row.values if name in answer - label]
    if not missed and not wrong:
        return f"right: {row.label or 'no tag'}", ""
    return f"misses {', '.join(missed) or 'nothing'}", f"wrong {', '.join(wrong) or 'nothing'}"


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten text to a width in pixels; the font of Pillow has no letters beyond Latin-1."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}..") > width:
        text = text[:-1]
    return f"{text}.."


def _name(item: Item) -> str:
    return item.name if isinstance(item, Path) else str(item)


def _described(item: Item, row: AnswerRow) -> dict[str, Any]:
    return {"image": str(item), "label": row.label, "answer": row.answer, "confidence": row.confidence}


def _write_answers(path: Path, kind: LabelKind, answers: Sequence[tuple[Item, AnswerRow]]) -> None:
    tags = list(kind.names) if answers and answers[0][1].values else []
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
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
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("name", *figures, *(f"as {name}" for name in others)))
        for name, entry in per_class.items():
            values = ("" if entry[key] is None else entry[key] for key in figures)
            table.writerow((name, *values, *(entry["predicted"].get(other, 0) for other in others)))


def _draw(folder: Path, metrics: Metrics, results: Mapping[str, Any], unit: str) -> None:
    per_class = results.get("per_class", {})
    if per_class and all("predicted" in entry for entry in per_class.values()):
        draw_confusion(per_class, folder / "confusion.png")
    elif per_class:
        draw_tags(per_class, folder / "tags.png")
    if "reliability" in results:
        draw_reliability(results["reliability"], folder / "reliability.png")
    if results["kind"] == "number" and metrics.images:
        rows = metrics.rows()
        numbers = ([float(row.label) for row in rows], [float(row.answer) for row in rows])
        draw_numbers(*numbers, unit, folder / "numbers.png")


STYLE = (
    "body{font:16px/1.5 system-ui;margin:1.5rem auto;max-width:70rem;padding:0 1rem}img{max-width:100%}"
    "th,td{text-align:left;padding:.15rem 1.5rem .15rem 0;vertical-align:top}td{font-variant-numeric:tabular-nums}"
    "div{overflow-x:auto}thead th{font-weight:400;color:#555}"
)

TITLES = {
    "confusion.png": "Confusion matrix",
    "tags.png": "Average precision by tag",
    "reliability.png": "Reliability",
    "numbers.png": "Answers against labels",
    "mistakes.jpg": "Worst mistakes",
    "doubtful.jpg": "Most doubtful pictures",
}


def _page(task: str, kind: LabelKind, results: Mapping[str, Any], folder: Path) -> str:
    """Write one page with all of it."""
    titled = zip(kind.figures, kind.figure_texts(results), strict=True)
    figures = "".join(f"<tr><th>{html.escape(figure.title)}<td>{html.escape(text)}" for figure, text in titled)
    sections = "".join(
        f'<h2>{title}</h2><img src="{name}" alt="{title}">'
        for name, title in TITLES.items()
        if (folder / name).exists()
    )
    files = "".join(f'<li><a href="{path.name}">{path.name}</a>' for path in sorted(folder.glob("*.csv")))
    name = html.escape(task)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{name}</title>'
        f"<style>{STYLE}</style><h1>{name}</h1><p>{html.escape(kind.describe())}; {results['images']} images</p>"
        f"<table>{figures}</table>{_class_table(results.get('per_class', {}))}{sections}"
        f"<h2>Tables</h2><ul>{files}</ul></html>"
    )


def _class_table(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a row for each class, grade or tag, the worst first."""
    if not per_class:
        return ""
    has_confusion = all("predicted" in entry for entry in per_class.values())
    heads = ("images", "recall", "taken for" if has_confusion else "precision")
    ranked = sorted(per_class.items(), key=lambda item: 2.0 if item[1]["recall"] is None else item[1]["recall"])
    rows = []
    for name, entry in ranked[:MOST_ROWS]:
        last = _others(name, entry["predicted"]) if has_confusion else _share(entry["precision"])
        rows.append(f"<tr><th>{html.escape(name)}<td>{entry['images']}<td>{_share(entry['recall'])}<td>{last}")
    more = f"<p>and {len(ranked) - MOST_ROWS} more in classes.csv</p>" if len(ranked) > MOST_ROWS else ""
    head = "".join(f"<th>{title}" for title in heads)
    return f"<h2>Worst first</h2><div><table><thead><tr><th>{head}</thead>{''.join(rows)}</table></div>{more}"


def _others(name: str, predicted: Mapping[str, int]) -> str:
    wrong = sorted(((count, other) for other, count in predicted.items() if other != name), reverse=True)
    return html.escape(", ".join(f"{other} ({count})" for count, other in wrong[:3]))


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
