"""`POST /v1/predict`: every way to ask, and everything that is no picture."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from snow.hub import Artifact, Hub
from snow.inference import SOURCE_HEAD

Wait = Callable[[Any], None]


def code_of(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()["error"]["code"]


def test_each_way_to_send_pictures_gets_the_answers_of_the_hub(
    serve: Any, hub: Hub, jpeg: Callable[..., bytes], wait: Wait, tmp_path: Any
) -> None:
    contents = [jpeg(1), jpeg(2, "PNG"), jpeg(3, "WEBP")]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    expected = hub.predict([tmp_path / str(number) for number in range(3)])

    def check(response: Any, names: list[str | None], numbers: list[int]) -> None:
        assert response.status_code == 200, response.text
        results = response.json()["results"]
        assert [one["image"] for one in results] == names
        for one, number in zip(results, numbers, strict=True):
            answer = expected[number]["learned"]
            assert one["tasks"]["learned"]["kind"] == "class"
            classes = one["tasks"]["learned"]["classes"]
            assert [entry["class"] for entry in classes] == list(answer.classes)
            found = [entry["probability"] for entry in classes]
            assert found == pytest.approx(answer.probabilities, rel=1e-3, abs=1e-4)

    async def work() -> None:
        async with serve() as served:
            post = served.client.post
            files = [("files", (f"{number}.jpg", content)) for number, content in enumerate(contents)]
            check(await post("/v1/predict", files=files), ["0.jpg", "1.jpg", "2.jpg"], [0, 1, 2])
            check(await post("/v1/predict", files={"any name": ("ä.jpg", contents[1])}), ["ä.jpg"], [1])
            for kind in ("image/jpeg", "application/octet-stream", None):
                headers = {"content-type": kind} if kind else {}
                check(await post("/v1/predict", content=contents[0], headers=headers), [None], [0])
            encoded = [base64.b64encode(content).decode() for content in contents]
            check(await post("/v1/predict", json={"images": encoded[1:]}), [None, None], [1, 2])
            check(await post("/v1/predict", json={"images": [f"data:image/png;base64,{encoded[1]}"]}), [None], [1])
            lines = base64.encodebytes(contents[2]).decode()
            assert lines.count("\n") > 5
            check(await post("/v1/predict", json={"images": [lines, lines.replace("\n", "\r\n")]}), [None] * 2, [2, 2])

    wait(work())


def test_tasks_and_the_number_of_classes_can_be_chosen(
    serve: Any, hub: Hub, canary: Callable[..., Artifact], jpeg: Callable[..., bytes], wait: Wait
) -> None:
    for name, answer in (("a", 0), ("b", 1)):
        hub.add(canary(name, answer))
    picture, encoded = jpeg(), base64.b64encode(jpeg()).decode()

    async def asked(work: Any) -> dict[str, list[str]]:
        response = await work
        assert response.status_code == 200, response.text
        [one] = response.json()["results"]
        return {name: [entry["class"] for entry in answer["classes"]] for name, answer in one["tasks"].items()}

    async def work() -> None:
        async with serve() as served:
            post, predict = served.client.post, served.predict
            assert set(await asked(predict(picture))) == {"a", "b", "learned"}
            both = {"b": ["one"], "a": ["zero"]}
            assert await asked(predict(picture, tasks=["b", "a"], top_k=1)) == both
            assert await asked(predict(picture, tasks="b,a,,b", top_k=1)) == both
            files = {"files": ("x", picture)}
            assert await asked(post("/v1/predict", files=files, data={"tasks": "b, a", "top_k": "1"})) == both
            assert await asked(post("/v1/predict", files=files, data={"tasks": ["b", "a"], "top_k": "1"})) == both
            assert await asked(post("/v1/predict", json={"images": [encoded], "tasks": ["b", "a"], "top_k": 1})) == both
            assert (await asked(predict(picture, tasks=SOURCE_HEAD, top_k=1))).keys() == {SOURCE_HEAD}
            assert [len(one) for one in (await asked(predict(picture, top_k=1000))).values()] == [3, 3, 3]

    wait(work())


def test_many_requests_share_passes_and_get_their_own_answers(
    serve: Any, hub: Hub, canary: Callable[..., Artifact], jpeg: Callable[..., bytes], wait: Wait
) -> None:
    import asyncio

    for number in range(3):
        hub.add(canary(f"canary-{number}", number))

    async def work() -> None:
        async with serve(max_wait=20_000.0, max_batch=8) as served:
            asked = [served.predict(jpeg(), tasks=f"canary-{number % 3}", top_k=1) for number in range(24)]
            for number, response in enumerate(await asyncio.gather(*asked)):
                [one] = response.json()["results"]
                [best] = one["tasks"][f"canary-{number % 3}"]["classes"]
                assert best["class"] == ("zero", "one", "two")[number % 3]
                assert response.json()["timing"]["batch"] == 8

    wait(work())


def bomb() -> bytes:
    """A PNG of a gigapixel, in a few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 32_000, 32_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def test_what_is_no_picture_gets_a_code(serve: Any, jpeg: Callable[..., bytes], wait: Wait) -> None:
    whole = jpeg(1, "PNG")
    cases = [
        (b"", 400, "empty"),
        (b"no picture at all", 422, "not_a_picture"),
        (b"\x00" * 1000, 422, "not_a_picture"),
        (whole[: len(whole) // 2], 422, "truncated"),
        (jpeg()[:400], 422, "truncated"),
        (whole[:43] + bytes(60) + whole[103:], 422, "broken_picture"),
        (bomb(), 413, "too_many_pixels"),
        (b"P6 3 3 255 " + bytes(27), 422, "not_a_picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "not_a_picture"),
        (bytes(20_001), 413, "too_many_bytes"),
    ]

    async def work() -> None:
        async with serve(max_bytes=20_000) as served:
            for content, status, code in cases:
                assert code_of(await served.predict(content), status) == code
            parts = [("files", ("good", jpeg())), ("files", ("bad", b"no"))]
            response = await served.client.post("/v1/predict", files=parts)
            assert code_of(response, 422) == "not_a_picture"
            assert response.json()["error"]["picture"] == 1
            assert served.service.batcher.reserved == 0
            assert (await served.predict(jpeg())).status_code == 200

    wait(work())


def test_what_is_no_question_gets_a_code(serve: Any, jpeg: Callable[..., bytes], wait: Wait) -> None:
    encoded = base64.b64encode(jpeg()).decode()
    form = "multipart/form-data; boundary=x"
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"content": jpeg(), "params": {"tasks": "unknown"}}, 404, "unknown_task"),
        ({"content": jpeg(), "params": {"tasks": "../../etc"}}, 404, "unknown_task"),
        ({"content": jpeg(), "params": {"top_k": 0}}, 422, "invalid"),
        ({"content": jpeg(), "params": {"top_k": "many"}}, 422, "invalid"),
        ({"content": jpeg(), "params": {"deadline_ms": -1}}, 422, "invalid"),
        ({"content": jpeg(), "headers": {"content-type": "text/plain"}}, 415, "wrong_type"),
        ({"data": {"files": "x"}}, 415, "wrong_type"),
        ({"json": {"images": []}}, 422, "invalid"),
        ({"json": {"images": [encoded] * 5}}, 413, "too_many_pictures"),
        ({"json": {"images": ["*"]}}, 400, "malformed"),
        ({"json": {"images": ["ä"]}}, 400, "malformed"),
        ({"json": {"images": [""]}}, 400, "empty"),
        ({"json": {"images": [encoded], "pickle": 1}}, 422, "invalid"),
        ({"json": {"images": [encoded], "top_k": True}}, 422, "invalid"),
        ({"json": [encoded]}, 422, "invalid"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "malformed"),
        ({"content": b"[" * 10_000, "headers": {"content-type": "application/json"}}, 400, "malformed"),
        ({"content": b"\xff\xfe", "headers": {"content-type": "application/json"}}, 400, "malformed"),
        ({"content": b"", "headers": {"content-type": form}}, 400, "empty"),
        ({"content": b"nonsense", "headers": {"content-type": form}}, 400, "malformed"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "malformed"),
        ({"files": {"a": ("b", jpeg())}, "data": {"top_k": "0"}}, 422, "invalid"),
        ({"files": {"a": ("b", jpeg())}, "data": {"other": "0"}}, 422, "invalid"),
    ]

    async def work() -> None:
        async with serve() as served:
            for options, status, code in cases:
                response = await served.client.post("/v1/predict", **options)
                assert code_of(response, status) == code, options
            assert code_of(await served.client.get("/v1/nothing"), 404) == "not_found"
            response = await served.client.get("/v1/predict")
            assert code_of(response, 405) == "method_not_allowed"
            assert response.headers["allow"] == "POST"

    wait(work())


def test_mutated_pictures_never_break_the_service(serve: Any, jpeg: Callable[..., bytes], wait: Wait) -> None:
    """Some hundreds: each is answered or refused with a code."""
    chance = random.Random(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    small = {"size": (24, 16)}
    whole = [jpeg(1, kind, **small) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    whole += [jpeg(1, kind, exif=exif, **small) for kind in ("JPEG", "PNG", "WEBP")]
    told: dict[str, int] = {}

    async def work() -> None:
        async with serve(max_wait=0.0) as served:
            for number in range(360):
                content = bytearray(whole[number % len(whole)])
                for _ in range(chance.choice((1, 2, 8, 30))):
                    end = len(content) if chance.random() < 0.6 else 64
                    content[chance.randrange(min(end, len(content)))] = chance.randrange(256)
                if chance.random() < 0.2:
                    content = content[: chance.randrange(1, len(content))]
                response = await served.predict(bytes(content))
                assert response.status_code in (200, 413, 422), response.text
                code = "ok" if response.status_code == 200 else response.json()["error"]["code"]
                told[code] = told.get(code, 0) + 1
            assert served.service.batcher.reserved == 0

    wait(work())
    assert {"ok", "truncated", "not_a_picture", "broken_picture"} <= told.keys()


def test_a_picture_of_one_pixel_and_a_long_strip_are_answered(serve: Any, wait: Wait) -> None:
    async def work() -> None:
        async with serve() as served:
            for size in ((1, 1), (3000, 1), (1, 3000)):
                file = io.BytesIO()
                Image.new("L", size).save(file, "PNG")
                assert (await served.predict(file.getvalue())).status_code == 200

    wait(work())
