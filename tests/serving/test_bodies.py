"""Bodies that are small to send and large to read: JSON, forms and archives."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from managing import tarred, zipped

from snow.serving.archives import MAX_HEADER_BYTES, MAX_MEMBERS, members
from snow.serving.errors import RefusedError
from snow.serving.forms import form_parts
from snow.serving.requests import _decode_base64
from snow.serving.uploads import unpack, unpack_form

Wait = Callable[[Any], None]
MEGABYTE = 2**20
FORM = "multipart/form-data; boundary=x"


def header(kind: bytes, size: int, name: str = "config.json") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(*records: tuple[str, str]) -> bytes:
    content = b""
    for key, value in records:
        length = len(f" {key}={value}\n")
        length += len(str(length + len(str(length))))
        content += f"{length} {key}={value}\n".encode()
    return header(tarfile.XHDTYPE, len(content)) + padded(content)


def contents(archive: bytes, limit: int = MEGABYTE) -> dict[str, bytes]:
    return {name: file.read(limit) for name, file in members(io.BytesIO(archive), limit)}


def test_archives_that_tools_write_are_read() -> None:
    files = {"config.json": b"{}", "a/model.safetensors": bytes(70_000), f"{'d' * 90}/{'e' * 50}/x.json": b"x"}
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            folder = tarfile.TarInfo("a")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime = len(content), 1.5
                archive.addfile(entry, io.BytesIO(content))
        assert contents(out.getvalue()) == files
        assert contents(gzip.compress(out.getvalue())) == files
    assert contents(zipped(files)) == files
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("config.json", "w", force_zip64=True) as file:
        file.write(b"{}")
    assert contents(out.getvalue()) == {"config.json": b"{}"}


def read_all(archive: bytes) -> None:
    for _, file in members(io.BytesIO(archive), MEGABYTE):
        while file.read(MEGABYTE):
            pass


def many_entries() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(MAX_MEMBERS + 1):
            archive.writestr(f"{number}.md", b"")
    return out.getvalue()


def lzma_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("config.json", b"{}")
    return out.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        header(tarfile.XHDTYPE, MAX_HEADER_BYTES + 1) + padded(b"1" * (MAX_HEADER_BYTES + 1)),
        header(tarfile.XHDTYPE, 60_000) + padded(b"1" * 59_999 + b" "),
        header(tarfile.XGLTYPE, 2**33) + bytes(512),
        header(tarfile.GNUTYPE_LONGNAME, 2**32) + bytes(512),
        header(tarfile.GNUTYPE_SPARSE, 512) + bytes(512),
        pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")) + header(tarfile.REGTYPE, 512) + b"9" * 512,
        pax(("size", str(2**50))) + header(tarfile.REGTYPE, 0),
        header(tarfile.DIRTYPE, 0) * 5000,
        header(tarfile.XGLTYPE, 0) * 5000,
        header(tarfile.REGTYPE, 2**62)[:512],
        b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * MEGABYTE,
        gzip.compress(header(tarfile.REGTYPE, 64 * MEGABYTE) + bytes(64 * MEGABYTE)),
        many_entries(),
        lzma_zip(),
        zipped({"config.json": b"{}"})[:-10] + struct.pack("<IIH", 2**31, 0, 0),
    ],
    ids=range(15),
)
def test_archives_that_would_take_long_or_much_are_refused(archive: bytes) -> None:
    started = time.process_time()
    with pytest.raises(RefusedError) as refused:
        read_all(archive)
    assert refused.value.code in ("bad_task", "too_many_bytes")
    assert time.process_time() - started < 2


def part(disposition: str, content: bytes = b"", before: bytes = b"\r\n") -> bytes:
    return b"--x" + before + f"Content-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


def test_forms_are_cut_at_their_boundaries() -> None:
    body = (
        b"preamble\r\n"
        + part('name="files"; filename="a\\"b.jpg"', b"\r\n--y\r\n\r\n--\r\n")
        + part('name="files"; filename=""', before=b" \t\r\n")
        + part('name="tasks"', "ä,b".encode())
        + b"--x--\r\nepilogue"
    )
    parts = list(form_parts(body, FORM, 3))
    assert [(one.name, one.filename, bytes(one.content)) for one in parts] == [
        ("files", 'a"b.jpg', b"\r\n--y\r\n\r\n--\r\n"),
        ("files", "", b""),
        ("tasks", None, "ä,b".encode()),
    ]
    assert parts[2].text == "ä,b"
    with pytest.raises(RefusedError, match="more than 2 parts"):
        list(form_parts(body, FORM, 2))


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"--x",
        b"--x\r\n",
        b"--x\r\n\r\ncontent\r\n--x--",
        b"--xy\r\n" + part('name="a"')[5:] + b"--x--",
        part('name="a"', b"no end"),
        b"--x\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n\r\n--x--",
        b"\r\n--x" * 100_000,
        b"\r" * MEGABYTE,
        b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--",
    ],
    ids=range(10),
)
def test_malformed_forms_are_refused_in_no_time(body: bytes) -> None:
    started = time.process_time()
    with pytest.raises(RefusedError, match="the form cannot be read"):
        list(form_parts(body, FORM, 64))
    assert time.process_time() - started < 1


def test_the_form_of_an_upload_is_not_read_into_memory(files: Any, tmp_path: Path) -> None:
    content = b"".join(part(f'name="f"; filename="{name}"', data) for name, data in files(0).items()) + b"--x--"
    with (tmp_path / "body").open("w+b") as body:
        body.write(content)
        folder = tmp_path / "task"
        folder.mkdir()
        unpack_form(body, FORM, folder, 10 * MEGABYTE)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files(0)


def test_bodies_of_requests_for_predictions_are_parsed_in_no_time(
    serve: Any, jpeg: Callable[..., bytes], wait: Wait
) -> None:
    """While they are, the event loop goes on: no step of it takes 2 s of processor time."""
    encoded = base64.b64encode(jpeg())
    in_lines = base64.encodebytes(jpeg()).replace(b"\n", b"\\r\\n").replace(b"/", b"\\/")
    cases = [
        (b'{"images":["aGk="],"tasks":["' + b'","'.join(b"%x" % number for number in range(400_000)) + b'"]}', 413),
        (b'{"images":[' + b"1," * 3_000_000 + b"1]}", 413),
        (b'{"images":["aGk="],"top_k":' + b"1" * 20_000_000 + b"}", 400),
        (b'{"images":["aGk="],"top_k":0.' + b"1" * 20_000_000 + b"}", 422),
        (b'{"' + b"k" * 20_000_000 + b'":1}', 422),
        (b'{"images":["' + b"\\u0041" * 3_000_000 + b'"]}', 400),
        (b'{"images":["' + b"AA " * 6_000_000 + b'"]}', 400),
        (b"[" * 20_000_000, 400),
        (b'{"images":["' + encoded + b'"],"tasks":["' + b"n" * 1000 + b'"]}', 422),
        (b'{"images":["' + encoded + b'"]}' + b" " * 20_000_000, 400),
        (b'{"images":["' + in_lines + b'"]}', 200),
    ]

    async def work() -> None:
        async with serve(max_bytes=32 * MEGABYTE) as served:
            longest = 0.0

            async def tick() -> None:
                nonlocal longest
                while True:
                    begun = time.thread_time()
                    await asyncio.sleep(0.001)
                    longest = max(longest, time.thread_time() - begun)

            ticking = asyncio.create_task(tick())
            for content, status in cases:
                headers = {"content-type": "application/json"}
                response = await served.client.post("/v1/predict", content=content, headers=headers)
                assert response.status_code == status, (content[:60], response.text)
                assert len(response.content) < 1000
            ticking.cancel()
            assert longest < 2
            for tasks in (["a" * 500], [",".join(map(str, range(1500)))], [str(number) for number in range(1001)]):
                response = await served.client.post("/v1/predict", content=jpeg(), params={"tasks": tasks})
                assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid")
            for number in ("9" * 400, "1" + "0" * 30, "1e400", "-" + "9" * 5000):
                for name in ("deadline_ms", "top_k"):
                    response = await served.client.post("/v1/predict", content=jpeg(), params={name: number})
                    assert response.json()["error"]["code"] == "invalid"

    wait(work())


def test_memory_for_bodies_goes_to_the_small_ones(serve: Any, jpeg: Callable[..., bytes], wait: Wait) -> None:
    go_on = asyncio.Event()

    async def slow(count: int) -> Any:
        for _ in range(count):
            yield bytes(100_000)
        await go_on.wait()
        yield b""

    async def work() -> None:
        async with serve(max_bytes=MEGABYTE, max_bodies=2 * MEGABYTE) as served:
            bodies = served.client._transport.app.state.bodies
            large = [asyncio.create_task(served.client.post("/v1/predict", content=slow(9))) for _ in range(2)]
            while bodies.used < 1_800_000:
                await asyncio.sleep(0.001)
            assert served.service.batcher.reserved == 0  # no place is held for what has not come
            small = [asyncio.create_task(served.client.post("/v1/predict", content=slow(3))) for _ in range(2)]
            done, _ = await asyncio.wait(large, return_when=asyncio.FIRST_COMPLETED)
            response = done.pop().result()
            assert (response.status_code, response.json()["error"]["code"]) == (503, "queue_full")
            assert (await served.predict(jpeg())).status_code == 200
            go_on.set()
            assert [one.status_code for one in await asyncio.gather(*small)] == [422, 422]
            await asyncio.gather(*large)
            assert bodies.used == 0

    wait(work())


def test_an_archive_may_hold_what_lies_beside_a_shared_task(files: Any, tmp_path: Path) -> None:
    unpack(io.BytesIO(tarred({"README.md": b"#", **files(0)})), tmp_path, MEGABYTE)
    assert "README.md" not in {path.name for path in tmp_path.iterdir()}


def test_base64_with_many_blanks_takes_the_memory_of_its_text() -> None:
    text = "AA " * 2_000_000
    tracemalloc.start()
    try:
        assert len(_decode_base64(text, 0)) == 3_000_000
        assert tracemalloc.get_traced_memory()[1] < 4 * len(text)
    finally:
        tracemalloc.stop()
