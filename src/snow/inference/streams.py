"""Frames of a stream: a folder that fills, a video file, a camera or a network address."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snow.data import decode, picture_files
from snow.errors import SnowError

log = logging.getLogger("snow.watch")

THUMBNAIL = 16
"""Side of the gray thumbnails by which frames are compared."""

SILENCE = 15.0
"""Seconds without an answer or a frame after which a camera counts as gone."""

INTERRUPTED = 1414092869
"""Error number of FFmpeg (AVERROR_EXIT) where that time is over."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds between two attempts to reach a camera again, at first and at most."""


class Frame(NamedTuple):
    """One picture of a stream.

    Attributes:
        name: file name, or the address with the number of the frame.
        seconds: time in the stream; for folders since the watch began.
        pixels: (3, H, W) uint8.
    """

    name: str
    seconds: float
    pixels: Tensor


class Frames(ABC):
    """Iterates over the frames of a stream.

    Attributes:
        dropped: frames that were not given because the reader was slower than the stream.
        skipped: frames that could not be read.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.skipped = 0

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the stream ends."""


class FolderFrames(Frames):
    """The pictures of a folder, and those that come into it, in the order of their names.

    A file that is still being written is left for the next look. One that changes later is given again: a camera may
    write over its last picture, and a slow copy may pause.

    Args:
        seconds: between two looks; None ends after the pictures that are there.
    """

    def __init__(self, folder: Path, seconds: float | None = 0.5) -> None:
        super().__init__()
        self._folder, self._seconds = folder, seconds
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        started = time.monotonic()
        seen: dict[Path, State] = {}
        given: dict[Path, State] = {}
        while not self._stopped.is_set():
            before, seen = seen, {path: _state(path) for path in picture_files(self._folder)}
            given = {path: state for path, state in given.items() if path in seen}  # files that are gone are forgotten
            for path, state in seen.items():
                is_written = self._seconds is None or before.get(path) == state
                if given.get(path) == state or not is_written:
                    continue
                given[path] = state
                try:
                    yield Frame(str(path), time.monotonic() - started, decode(path))
                except SnowError as error:
                    self.skipped += 1
                    log.warning("%s", error)
            if self._seconds is None:
                return
            self._stopped.wait(self._seconds)

    def stop(self) -> None:
        self._stopped.set()


State = tuple[int, int]
"""Size of a file and when it was written, by which a change is known; (-1, -1) for one that is gone."""


def _state(path: Path) -> State:
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


class VideoFrames(Frames):
    """Frames of a video file, camera or network address, through PyAV.

    A file gives all its frames. A live stream gives the newest frame each time, and counts those that were dropped; one
    that goes away is asked again until the watch ends.

    Args:
        address: path, URL such as rtsp://…, or device such as /dev/video0.
        live: whether frames come whether they are read or not; by default if `address` is no file.
        every: use every n-th frame.

    Raises:
        SnowError: PyAV is not installed.
    """

    def __init__(self, address: str, live: bool | None = None, every: int = 1) -> None:
        super().__init__()
        self._av = _pyav()
        self._address, self._every = address, every
        self._live = not Path(address).is_file() if live is None else live

    def __iter__(self) -> Iterator[Frame]:
        return self._newest() if self._live else self._all()

    def _all(self) -> Iterator[Frame]:
        try:
            with self._open() as container:
                for number, frame in enumerate(container.decode(video=0)):
                    if number % self._every == 0:
                        yield self._converted(number, frame)
        except (OSError, self._av.FFmpegError) as error:
            raise SnowError(f"{self._address}: not a readable video ({error})") from None

    def _newest(self) -> Iterator[Frame]:
        """Read frames on a thread of their own, of which only the last waits to be taken."""
        newest: list[Frame] = []
        ready, stop = threading.Condition(), threading.Event()
        reader = threading.Thread(target=self._read, args=(newest, ready, stop), daemon=True)
        reader.start()
        try:
            while True:
                with ready:
                    ready.wait_for(lambda: bool(newest))
                    frame = newest.pop()
                yield frame
        finally:
            stop.set()

    def _read(self, newest: list[Frame], ready: threading.Condition, stop: threading.Event) -> None:
        wait = FIRST_WAIT
        while not stop.is_set():
            try:
                with self._open() as container:
                    for number, frame in enumerate(container.decode(video=0)):
                        if stop.is_set():
                            return
                        wait = FIRST_WAIT
                        if number % self._every:
                            continue
                        with ready:
                            self.dropped += len(newest)
                            newest[:] = [self._converted(number, frame)]
                            ready.notify()
                reason = "the stream ended"
            except (OSError, self._av.FFmpegError) as error:
                silent = getattr(error, "errno", None) == INTERRUPTED
                reason = f"nothing came for {SILENCE:.0f} s" if silent else str(error)
            log.warning("%s: %s; asked again in %.0f s", self._address, reason, wait)
            stop.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _open(self) -> Any:
        return self._av.open(self._address, timeout=SILENCE if self._live else None)

    def _converted(self, number: int, frame: Any) -> Frame:
        pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
        return Frame(f"{self._address}#{number}", float(frame.time or 0.0), pixels)


def _pyav() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError:
        raise SnowError("videos and cameras need PyAV: pip install 'snow-cnn[video]'") from None


def open_frames(address: str, once: bool, every: int) -> Frames:
    """Open a folder, or anything else as a video.

    Raises:
        SnowError: there is no such folder or file, or PyAV is missing.
    """
    path = Path(address)
    if path.is_dir():
        return FolderFrames(path, None if once else 0.5)
    is_address = "://" in address or address.startswith("/dev/")
    if not is_address and not path.exists():
        raise SnowError(f"{address}: there is no such folder or file, and it is no address")
    return VideoFrames(address, live=is_address and not once, every=every)


def unlike_before(frames: Frames, least: float) -> Iterator[Frame]:
    """Leave out frames that hardly differ from the last one that was not left out.

    Args:
        least: mean difference of the gray thumbnails, 0..255, that counts.
    """
    before: Tensor | None = None
    for frame in frames:
        small = _thumbnail(frame.pixels)
        if before is None or float((small - before).abs().mean()) >= least:
            before = small
            yield frame


def _thumbnail(pixels: Tensor) -> Tensor:
    gray = pixels.float().mean(0, keepdim=True)[None]
    return torch.nn.functional.adaptive_avg_pool2d(gray, THUMBNAIL)


class Smoothed:
    """Means of the values of the last frames, by task.

    Args:
        frames: number of frames.
    """

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._past: dict[str, list[dict[str, float]]] = {}

    def add(self, task: str, values: dict[str, float]) -> dict[str, float]:
        """Add a frame, and return the means, largest first."""
        past = self._past.setdefault(task, [])
        past.append(values)
        del past[: -self._frames]
        names = dict.fromkeys(name for entry in past for name in entry)
        means = {name: sum(entry.get(name, 0.0) for entry in past) / len(past) for name in names}
        return dict(sorted(means.items(), key=lambda item: -item[1]))
