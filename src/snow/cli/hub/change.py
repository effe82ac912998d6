"""`snow hub init`, `add`, `replace` and `remove`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snow.cli.hub.look import print_tasks, summaries
from snow.cli.hub.place import HubPath, app, require, resolve
from snow.cli.options import SOURCE, Json, SourceOptions
from snow.cli.output import note, print_json, print_table
from snow.errors import SnowError
from snow.hub.listing import read_summary, store_of
from snow.hub.task_files import read_config
from snow.hub.versions import remove_versions
from snow.source.description import read_source


@app.command
def init(
    hub: Path,
    /,
    *,
    seed: int = 0,
    json: Json = False,
    source: Annotated[SourceOptions | None, Parameter(name="*", group=SOURCE)] = None,
) -> None:
    """Create a hub without tasks. An existing hub with the same source is left unchanged.

    Args:
        hub: folder to create.
        seed: of the random weights with `--no-pretrained`.
        json: print {"hub", "source"}.
    """
    from snow.cli.sources import open_source  # imports torch, which takes seconds
    from snow.hub import Hub

    options = source or SourceOptions()
    existed = (hub / "source.json").exists()
    Hub.create(hub, open_source(hub, options, seed))
    described = read_source(hub)
    if existed:
        note(f"hub {hub} exists already")
    if json:
        print_json({"hub": str(hub), "source": described})
    else:
        print_table(("hub", str(hub)), [(key, described[key]) for key in ("architecture", "weights", "fingerprint")])
        print(f"\nNow train a task: snow train PICTURES --task NAME --hub {hub}")


@app.command
def add(hub: Path, where: Path, /, *, task: str | None = None, json: Json = False) -> None:
    """Copy a task, or all tasks of another hub, into a hub with the same source.

    Args:
        hub: hub to copy into.
        where: HUB, HUB/TASK, or a folder with a task.
        task: new name of the task; by default its present one.
        json: print a list of {"task", "method", "classes", "artifact_bytes", "top1"}.
    """
    _copy(hub, where, task, False, json)


@app.command
def replace(hub: Path, where: Path, /, *, task: str | None = None, json: Json = False) -> None:
    """Replace tasks of a hub by a task, or by all tasks of another hub. Each task is replaced atomically.

    Args:
        hub: hub to change.
        where: HUB, HUB/TASK, or a folder with a task.
        task: task to replace; by default the one with the same name.
        json: print a list of {"task", "method", "classes", "artifact_bytes", "top1"}.
    """
    _copy(hub, where, task, True, json)


@app.command
def remove(hub: Path, tasks: Annotated[list[str], Parameter(negative=())], /) -> None:
    """Delete tasks from a hub. This cannot be undone.

    Args:
        hub: folder of the hub.
        tasks: names of the tasks.
    """
    require(hub, *tasks)
    for name in dict.fromkeys(tasks):
        store_of(hub).remove(name)
        remove_versions(hub, name)


def _copy(hub: Path, where: Path, task: str | None, replacing: bool, json: bool) -> None:
    from snow.hub import Hub  # imports torch, which takes seconds

    fingerprint = read_source(hub)["fingerprint"]
    sources = _tasks(resolve(where), task)
    for name in sources:
        if replacing:
            require(hub, name)
        elif store_of(hub).has(name):
            raise SnowError(
                f"hub {hub} has a task {name!r} already: use snow hub replace, or give another name with --task"
            )
    opened, copied = Hub.open(hub), []
    for name, folder in sources.items():
        try:
            opened.copy(folder, name, replacing)
        except SnowError as error:
            if len(sources) == 1:
                raise
            note(f"warning: task {name} is left out: {error}")
        else:
            copied.append(read_summary(opened.folder(name), name, fingerprint))
    if not copied:
        raise SnowError(f"no task of {where} can be copied to hub {hub}")
    if json:
        print_json(copied)
    else:
        print_tasks(copied)


def _tasks(origin: HubPath, name: str | None) -> dict[str, Path]:
    """Map new task names to folders. Damaged tasks of a hub are left out."""
    if origin.hub is None:
        return {name or origin.read(read_config)["task"]: origin.path}
    if origin.task is not None:
        origin.read(read_config)
        return {name or origin.task: origin.path}
    if name is not None:
        raise SnowError(f"{origin.path} is a hub, but --task names one task: give its path as {origin.path}/TASK")
    names = [entry["task"] for entry in summaries(origin.hub)]
    if not names:
        raise SnowError(f"hub {origin.path} has no task to copy")
    return {task: origin.path / "tasks" / task for task in names}
