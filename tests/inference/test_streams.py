"""Frames of folders and videos."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from snow.errors import SnowError
from snow.inference import streams
from snow.inference.streams import FolderFrames, Smoothed, VideoFrames, open_frames, unlike_before


def write(path: Path, level: int) -> None:
    Image.new("RGB", (24, 16), (level, level, level)).save(path)


def test_a_folder_gives_what_is_there(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.png", 40 * number)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    frames = FolderFrames(tmp_path, None)
    assert [Path(frame.name).name for frame in frames] == ["0.png", "1.png", "2.png"]
    assert frames.skipped == 1


def test_a_folder_gives_what_comes(tmp_path: Path) -> None:
    write(tmp_path / "0.png", 0)
    frames = FolderFrames(tmp_path, 0.01)

    def fill() -> None:
        time.sleep(0.1)
        write(tmp_path / "1.png", 90)

    writer = threading.Thread(target=fill)
    writer.start()
    names = []
    for frame in frames:
        names.append(Path(frame.name).name)
        if len(names) == 2:
            frames.stop()
    writer.join()
    assert names == ["0.png", "1.png"]


def test_a_file_that_changes_is_given_again(tmp_path: Path) -> None:
    write(whole := tmp_path / "whole.data.png", 200)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "latest.png").write_bytes(whole.read_bytes()[:40])  # a copy that pauses
    frames = FolderFrames(folder, 0.01)
    writes = iter([whole.read_bytes(), None, None])

    def go_on(_seconds: float) -> None:
        if frames.skipped and (content := next(writes, None)) is not None:
            (folder / "latest.png").write_bytes(content)

    frames._stopped.wait = go_on  # ty: ignore[invalid-assignment]
    levels = []
    for frame in frames:
        levels.append(int(frame.pixels.max()))
        if len(levels) == 2:
            frames.stop()
        write(folder / "latest.png", 90)
        os.utime(folder / "latest.png", ns=(1, 1))
    assert (levels, frames.skipped) == ([200, 90], 1)


def test_frames_that_hardly_differ_are_left_out(tmp_path: Path) -> None:
    for number, level in enumerate((10, 11, 12, 60, 61)):
        write(tmp_path / f"{number}.png", level)
    kept = [Path(frame.name).stem for frame in unlike_before(FolderFrames(tmp_path, None), 5.0)]
    assert kept == ["0", "3"]
    assert len(list(unlike_before(FolderFrames(tmp_path, None), 0.0))) == 5


def test_smoothing_is_the_mean_of_the_last_frames() -> None:
    smoothed = Smoothed(2)
    smoothed.add("t", {"a": 1.0, "b": 0.0})
    smoothed.add("t", {"a": 0.0, "b": 1.0})
    assert smoothed.add("t", {"a": 0.2, "b": 0.8}) == {"b": 0.9, "a": 0.1}
    assert smoothed.add("other", {"a": 1.0}) == {"a": 1.0}


def test_what_is_no_stream_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="no such folder or file, and it is no address"):
        open_frames(str(tmp_path / "absent.mp4"), True, 1)


class Decoded:
    """Stands in for a frame of PyAV."""

    def __init__(self, number: int) -> None:
        self.time, self.number = number / 10, number

    def to_ndarray(self, format: str) -> np.ndarray:
        assert format == "rgb24"
        return np.full((8, 8, 3), self.number, np.uint8)


class Camera:
    """Stands in for PyAV: a camera that goes away after three frames, and comes back."""

    def __init__(self, pause: float) -> None:
        self.opened, self.pause = 0, pause
        self.FFmpegError = RuntimeError
        self.may_go_on, self.ended = threading.Event(), threading.Event()
        self.may_go_on.set()

    def open(self, _address: str, timeout: float | None) -> Any:
        assert timeout, "a camera that says nothing is not waited for"
        self.opened += 1
        if self.opened == 2:
            raise RuntimeError("no route")
        return self

    def __enter__(self) -> Any:
        return SimpleNamespace(decode=lambda video: self.frames())

    def __exit__(self, *_: object) -> None:
        return None

    def frames(self) -> Iterator[Decoded]:
        for number in range(3):
            time.sleep(self.pause)
            yield Decoded(3 * self.opened + number)
            self.may_go_on.wait()
        self.ended.set()


def test_a_camera_that_goes_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(0.01)
    monkeypatch.setattr(streams, "_pyav", lambda: camera)
    monkeypatch.setattr(threading.Event, "wait", lambda self, timeout=None: self.is_set())
    frames = VideoFrames("rtsp://camera", live=True)
    seen: list[int] = []
    for frame in frames:
        seen.append(int(frame.pixels[0, 0, 0]))
        if seen[-1] >= 9:
            break
    assert seen == sorted(seen)
    assert seen[-1] >= 9, "it came back"


def test_a_slow_reader_gets_the_newest_frame_and_the_others_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(0.0)
    monkeypatch.setattr(streams, "_pyav", lambda: camera)
    monkeypatch.setattr(streams, "FIRST_WAIT", 300.0)  # it does not come back
    camera.may_go_on.clear()
    frames = VideoFrames("rtsp://camera", live=True)
    iterator = frames._newest()
    assert int(next(iterator).pixels[0, 0, 0]) == 3
    camera.may_go_on.set()
    assert camera.ended.wait(300)
    assert int(next(iterator).pixels[0, 0, 0]) == 5, "the newest"
    assert frames.dropped == 1
    iterator.close()


def test_a_video_file_gives_every_nth_frame(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = str(tmp_path / "video.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(12):
            pixels = np.full((64, 64, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    frames = list(open_frames(path, False, 3))
    assert len(frames) == 4
    assert frames[0].pixels.shape == (3, 64, 64)
    assert frames[0].pixels.dtype == torch.uint8
    levels = [float(frame.pixels.float().mean()) for frame in frames]
    assert levels == pytest.approx([0, 60, 120, 180], abs=8)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(SnowError, match="not a readable video"):
        list(open_frames(str(tmp_path / "text.mp4"), False, 1))
