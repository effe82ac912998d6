"""`snow watch`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from snow.cli.app import command
from snow.cli.options import Flag, Names
from snow.cli.output import note
from snow.cli.sinks import Mqtt, Sink, Webhook
from snow.data import eval_transform
from snow.errors import SnowError
from snow.hub import Hub
from snow.inference import Failure, encode
from snow.inference.drift_watch import DriftWatch
from snow.inference.streams import Frame, Smoothed, open_frames, unlike_before
from snow.kinds import NumberPrediction, Prediction
from snow.process.devices import find_device
from snow.process.interrupt import Interrupted

Answers = dict[str, Prediction | Failure]
"""Answers of the tasks to one frame, by name."""

app = command("watch", "snow watch my-hub rtsp://camera/stream --every 5")


@app.default
def watch_command(
    hub: Path,
    source: str,
    /,
    *,
    tasks: Names = (),
    every: int = 1,
    differ: float = 2.0,
    smooth: int = 1,
    reject: float = 0.0,
    top_k: int = 3,
    webhook: str | None = None,
    mqtt: str | None = None,
    once: Flag = False,
    limit: int | None = None,
    device: str = "cpu",
) -> None:
    """Ask tasks about a stream, and print a line of JSON for each frame: a folder that fills, a video, a camera.

    A live stream is not slowed down: frames that come too fast are dropped and counted. A camera that goes away is
    asked again. Videos, cameras and addresses such as rtsp://… need the extra `video`. After every 100 frames the last
    500 are compared with those of training. A line {"drift": {NAME: {...}}} with the keys of `snow drift`, and a note
    on stderr, say when a task's frames begin to differ and when they no longer do.

    Args:
        hub: folder of the hub.
        source: folder, video file, device such as /dev/video0, or address.
        tasks: names separated by commas; by default all tasks.
        every: use every n-th frame of a video.
        differ: leave out frames whose gray thumbnails differ by less than this, 0 to 255; 0 keeps all.
        smooth: average the values of this many frames, in "smoothed".
        reject: answer unknown below this share of a task's own pictures, as in `snow predict`.
        top_k: number of classes to list for each task.
        webhook: address that each line is sent to as well; lines that it does not take are counted, not sent again.
        mqtt: mqtt(s)://USER:PASSWORD@HOST:PORT/TOPIC to publish each line under as well; needs the extra `mqtt`.
        once: end with what is there: the pictures of the folder, the frames of the video.
        limit: end after this many frames.
        device: cpu, cuda, cuda:1, mps or auto.
    """
    _check(every, smooth, top_k, limit)
    opened = Hub.open(hub)
    opened.source.to(find_device(device))
    opened.tasks.require(*tasks)
    frames = open_frames(source, once, every)
    asked = partial(opened.predict, tasks=tasks or None, reject=reject, with_traits=True)
    describe = partial(_entry, top_k=top_k, smoothed=Smoothed(smooth) if smooth > 1 else None)
    sinks, count = _sinks(webhook, mqtt), 0
    try:
        for lines in _lines(opened, islice(unlike_before(frames, differ), limit), asked, describe):
            for line in lines:
                _send({**line, "dropped": frames.dropped, "skipped": frames.skipped}, sinks)
            count += 1
    except (KeyboardInterrupt, Interrupted):
        note("stopped")
    finally:
        for sink in sinks:
            sink.close()
    lost = "".join(f", {sink.refused} lines not taken by {sink.name}" for sink in sinks)
    note(f"{count} frames, {frames.dropped} dropped, {frames.skipped} unreadable{lost}")


def _sinks(webhook: str | None, mqtt: str | None) -> list[Sink]:
    """Open what lines are sent to. Raises SnowError: as `Webhook` and `Mqtt`."""
    sinks: list[Sink] = [] if webhook is None else [Webhook(webhook)]
    return sinks if mqtt is None else [*sinks, Mqtt(mqtt)]


def _send(entry: Mapping[str, Any], sinks: Sequence[Sink]) -> None:
    """Print a line of JSON, and send it on."""
    line = json.dumps(entry, ensure_ascii=False)
    print(line, flush=True)
    for sink in sinks:
        sink.send(line)


def _check(every: int, smooth: int, top_k: int, limit: int | None) -> None:
    """Raises SnowError: an option is out of range."""
    if every < 1 or smooth < 1 or top_k < 1 or (limit is not None and limit < 1):
        raise SnowError("--every, --smooth, --top-k and --limit must be at least 1")


def _lines(
    hub: Hub,
    frames: Iterable[Frame],
    ask: Callable[[Tensor], Sequence[Answers]],
    describe: Callable[[Frame, Answers], dict[str, Any]],
) -> Iterator[list[dict[str, Any]]]:
    """Ask tasks about each frame, those of the hub as it is by then. Yield what is to be said of it."""
    prepare, watch = eval_transform(hub.source.preprocessing), DriftWatch()
    for frame in frames:
        if hub.refresh():
            watch.keep(hub.names())
        answers = ask(prepare(frame.pixels)[None])[0]
        drifts = _drifts(watch, answers)
        warning = {"image": frame.name, "drift": drifts, "seconds": round(frame.seconds, 3)}
        yield [describe(frame, answers), *([warning] if drifts else [])]


def _drifts(watch: DriftWatch, answers: Answers) -> dict[str, dict[str, Any]]:
    """Record a frame. Name the tasks whose frames begin or end to differ from training, here and on stderr."""
    changes = [watch.record(name, [entry]) for name, entry in answers.items() if not isinstance(entry, Failure)]
    seen = [change for change in changes if change is not None]
    for change in seen:
        note(change.describe())
    return {change.task: asdict(change.drift) for change in seen}


def _entry(frame: Frame, answers: Answers, top_k: int, smoothed: Smoothed | None) -> dict[str, Any]:
    entry = {**encode(frame.name, answers, top_k), "seconds": round(frame.seconds, 3)}
    if smoothed is not None:
        entry["smoothed"] = {
            name: dict(list(smoothed.add(name, _values(answer)).items())[:top_k])
            for name, answer in answers.items()
            if not isinstance(answer, Failure)
        }
    return entry


def _values(answer: Prediction) -> dict[str, float]:
    """Return what is averaged over time: the number, or the probability of each label."""
    if isinstance(answer, NumberPrediction):
        return {"value": answer.value}
    return {label.removesuffix(" (off)"): value for label, value in answer.top()}
