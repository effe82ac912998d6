"""`snow hub init`, `add`, `replace` and `remove`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snow.cli.hub.look import print_tasks, summaries
from snow.cli.hub.place import Place, app, place, require, summary
from snow.cli.options import SOURCE, Json, SourceOptions
from snow.cli.output import note, print_json, print_table
from snow.cli.sources import open_source
from snow.errors import SnowError
from snow.hub import Hub
from snow.hub.artifact import read_config
from snow.hub.folder import store_of
from snow.source.source_file import read_source


@app.command
def init(
    hub: Path,
    /,
    *,
    seed: int = 0,
    json: Json = False,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
) -> None:
    """Make a hub without tasks; one that is there already is left as it is, if it has this source.

    Args:
        hub: the folder to make.
        seed: of the random weights, with `--no-pretrained`.
        json: print {"hub", "source"}.
    """
    options = source or SourceOptions()
    was_there = (hub / "source.json").exists()
    Hub.create(hub, open_source(hub, options, seed))
    described = read_source(hub)
    if was_there:
        note(f"hub {hub} was there already")
    if json:
        print_json({"hub": str(hub), "source": described})
    else:
        print_table(("hub", str(hub)), [(key, described[key]) for key in ("architecture", "weights", "fingerprint")])
        print(f"\nNow train a task: snow train PICTURES --task NAME --hub {hub}")


@app.command
def add(hub: Path, where: Path, /, *, task: str | None = None, json: Json = False) -> None:
    """Copy a task, or all tasks of another hub, that was learned on the same source.

    Args:
        hub: where to.
        where: HUB, HUB/TASK, or a folder with a task.
        task: what to call it here.
        json: print a list of {"task", "method", "classes", "artifact_bytes", "top1"}.
    """
    _copy(hub, where, task, False, json)


@app.command
def replace(hub: Path, where: Path, /, *, task: str | None = None, json: Json = False) -> None:
    """Put a task, or all tasks of another hub, in the place of those that have their names, each in one step.

    Args:
        hub: where to.
        where: HUB, HUB/TASK, or a folder with a task.
        task: which to replace; by default the one of the same name.
        json: print a list of {"task", "method", "classes", "artifact_bytes", "top1"}.
    """
    _copy(hub, where, task, True, json)


@app.command
def remove(hub: Path, tasks: Annotated[list[str], Parameter(negative=())], /) -> None:
    """Remove tasks for good, each in one step; the others stay as they are.

    Args:
        hub: its folder.
        tasks: their names.
    """
    require(hub, *tasks)
    for name in dict.fromkeys(tasks):
        store_of(hub).remove(name)


def _copy(hub: Path, where: Path, task: str | None, replacing: bool, json: bool) -> None:
    read_source(hub)
    sources = _tasks(place(where), task)
    for name in sources:
        if replacing:
            require(hub, name)
        elif store_of(hub).has(name):
            raise SnowError(f"hub {hub} has a task {name!r} already: snow hub replace, or another name with --task")
    opened, copied = Hub.open(hub), []
    for name, folder in sources.items():
        try:
            opened.copy(folder, name, replacing)
        except SnowError as error:
            if len(sources) == 1:
                raise
            note(f"warning: task {name} is left out: {error}")
        else:
            copied.append(summary(hub, name))
    if not copied:
        raise SnowError(f"none of the tasks of {where} can be copied to hub {hub}")
    if json:
        print_json(copied)
    else:
        print_tasks(copied)


def _tasks(found: Place, name: str | None) -> dict[str, Path]:
    """What to call each task, and where it is; of a hub those that can answer."""
    if found.hub is None:
        return {name or found.read(read_config)["task"]: found.path}
    if found.task is not None:
        found.read(read_config)
        return {name or found.task: found.path}
    if name is not None:
        raise SnowError(f"{found.path} is a hub, and --task names one task: say which as {found.path}/TASK")
    names = [entry["task"] for entry in summaries(found.hub)]
    if not names:
        raise SnowError(f"hub {found.path} has no task to copy")
    return {one: found.path / "tasks" / one for one in names}
