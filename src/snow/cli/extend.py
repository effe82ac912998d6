"""`snow extend`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from snow.cli.app import command
from snow.cli.options import Flag, Json, Names
from snow.cli.output import note, percent, print_json, print_table
from snow.data import Measured, SplitRecord, Task, open_measured
from snow.data.pictures import inspect
from snow.errors import SnowError
from snow.hub import Artifact, Hub
from snow.kinds import ClassMetrics
from snow.training.evaluate import evaluate
from snow.training.extend import Extension, extend
from snow.training.hub_run import sole_run
from snow.training.polish import Polish

app = command("extend", "snow extend my-hub insects new-pictures/ --check pictures/")


@app.default
def extend_command(
    hub: Path,
    task: str,
    pictures: Path | None = None,
    /,
    *,
    check: str | None = None,
    remove: Names = (),
    rename: Names = (),
    train: Flag = False,
    workers: int = 0,
    json: Json = False,
) -> None:
    """Add classes, or images of classes that are there, to a trained task, in closed form.

    The task keeps statistics of its training images, not the images; new ones update them in closed form. The version
    before stays in the hub: `snow hub log` lists it, and `snow hub rollback` puts it back.

    Args:
        hub: folder of the hub.
        task: name of the task; its labels are classes.
        pictures: folder of class folders; a name that the task does not have is a new class.
        check: labelled images, as for `snow eval`: accuracy on the classes that were there is measured before and
            after. Without it, what these classes lose is estimated from the statistics.
        remove: classes to remove, separated by commas.
        rename: new names of classes, as OLD=NEW separated by commas.
        train: then fit the classifier to these images, and keep that unless it is worse on images left out in turn.
            Classes without images here are held in place by their statistics.
        workers: processes that load images.
        json: print {"task", "classes", "added": {CLASS: images}, "corrected": {CLASS: images}, "lost", "before",
            "after"}; "lost" is the estimated share of images of the other classes that new ones take, and "before" and
            "after" are accuracies with --check. --train adds "train": {"kept", "images", "before", "after"}, with the
            accuracy on images that were left out in turn.
    """
    if pictures is None and not remove and not rename:
        raise SnowError("there is nothing to do: give a folder of class folders, --remove or --rename")
    opened = Hub.open(hub)
    opened.tasks.require(task)
    with sole_run(hub, [task]):
        before = opened.task(task)
        measured = None if check is None else _open_check(check, before)
        names = _renames(rename)
        extension = extend(opened, task, pictures, remove=remove, rename=names, train=train, workers=workers)
        for line in (*extension.warnings, *_checked_twice(extension, measured)):
            note(f"warning: {line}")
        accuracy = None if measured is None else _accuracy(opened, before, measured)
        opened.add(extension.artifact, replace=True)
    after = None if measured is None else _accuracy(opened, extension.artifact, measured, names)
    _report(task, extension, accuracy, after, json)


def _renames(options: Names) -> dict[str, str]:
    names: dict[str, str] = {}
    for option in options:
        old, equals, new = option.partition("=")
        if not old or not equals or not new:
            raise SnowError(f"--rename takes OLD=NEW, not {option!r}")
        names[old] = new
    return names


def _open_check(data: str, artifact: Artifact) -> Measured:
    recorded = artifact.training.get("split")
    record = None if recorded is None else SplitRecord.from_dict(recorded)
    measured = open_measured(data, Task(artifact.name, artifact.classes), record)
    for line in measured.warnings:
        note(f"warning: {line}")
    note(f"measured: {measured.line}")
    return measured


def _checked_twice(extension: Extension, measured: Measured | None) -> list[str]:
    """Warn, in at most one line, of pictures that are learned and then measured on."""
    items = () if measured is None else measured.pictures.items
    count = sum(look.digest in extension.digests for look in inspect(items, decoded=False))
    if not count:
        return []
    return [f"{count} of the {len(items)} images of --check are learned now, so accuracy after it means little"]


def _accuracy(hub: Hub, artifact: Artifact, measured: Measured, renamed: dict[str, str] | None = None) -> float:
    """Measure top-1 on pictures of the classes that the task had before, among all that it has."""
    places = {label: number for number, label in enumerate(artifact.classes)}
    old = [places.get((renamed or {}).get(label, label), -1) for label in measured.task.classes]
    pictures = measured.pictures.subset(range(len(measured.pictures)))
    for row in range(len(pictures.labels)):
        pictures.labels[row, 0] = old[int(pictures.labels[row, 0])]
    metrics = evaluate(hub.source, {artifact.name: artifact.method}, pictures, precision="32")[artifact.name]
    assert isinstance(metrics, ClassMetrics)
    return metrics.top1


def _report(task: str, extension: Extension, before: float | None, after: float | None, as_json: bool) -> None:
    if as_json:
        counts = {"added": dict(extension.added), "corrected": dict(extension.corrected)}
        figures = {"lost": extension.lost, "before": before, "after": after}
        polished = {} if extension.polish is None else {"train": asdict(extension.polish)}
        print_json({"task": task, "classes": list(extension.artifact.classes), **counts, **figures, **polished})
        return
    rows = [(label, "new", count) for label, count in extension.added.items()]
    rows += [(label, "more images", count) for label, count in extension.corrected.items()]
    print_table(("class", "", "images"), rows)
    print(f"\n{task} has {len(extension.artifact.classes)} classes.")
    if extension.polish is not None:
        print(_polish_line(extension.polish))
    if before is not None and after is not None:
        print(f"Top-1 on the classes that were there: {percent(before)} before, {percent(after)} after.")
    elif extension.added:
        print(f"The new classes take about {percent(extension.lost)} of the images of the others.")


def _polish_line(polish: Polish) -> str:
    if not polish.kept:
        return f"Kept: the closed form; training on {polish.images} images was worse on left-out ones."
    return f"Trained on {polish.images} images: {percent(polish.before)} right before, {percent(polish.after)} after."
