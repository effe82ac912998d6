"""The page in a real browser: pictures, answers, errors, tasks that appear, the keyboard, a phone."""

from __future__ import annotations

import csv
import shutil
import socket
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from snow.hub import Artifact, Hub

pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 60_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture
def url(hub: Hub) -> Generator[str]:
    """A service in a thread of this process."""
    import uvicorn

    from snow.serving.app import create_app
    from snow.serving.limits import Limits
    from snow.serving.service import Service

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        app = create_app(Service(hub, Limits(poll=0.05)), "a token")
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any, url: str) -> Generator[Any]:
    """On a phone in the dark. Every request goes to the service, and no script fails."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda request: request.url.startswith((url, "blob:")) or faults.append(request.url))
    opened.goto(url)
    opened.locator(".task", has_text="learned").wait_for()
    yield opened
    width = opened.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert width == 390, "it scrolls sideways"
    assert faults == []


def test_pictures_are_answered_and_what_is_none_is_an_error(
    page: Any, canary: Callable[..., Artifact], hub: Hub, jpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    files = [tmp_path / "one.jpg", tmp_path / "two.png", tmp_path / "notes.txt"]
    for file, content in zip(files, (jpeg(1), jpeg(2, "PNG"), b"no picture"), strict=True):
        file.write_bytes(content)
    page.set_input_files("#files", files)
    page.get_by_text("2 pictures answered").wait_for()
    assert page.locator(".answer").count() == 2
    assert page.locator(".answer .task-name").all_inner_texts() == ["learned", "learned"]
    best = hub.predict([files[0]])[0]["learned"]
    card = page.locator(".answer", has_text="one.jpg")
    assert card.locator(".said").inner_text() == best.classes[0]
    assert "sure" in card.locator(".chip").inner_text()
    card.locator("summary").click()
    assert [text.removeprefix("✓ ") for text in card.locator(".bars .label").all_inner_texts()] == list(best.classes)
    assert card.locator(".bars .number").first.inner_text().startswith(f"{100 * best.probabilities[0]:.0f}")
    assert "ms" in card.locator("figcaption").inner_text()
    error = page.get_by_role("alert").locator(".error")
    error.wait_for()
    assert "notes.txt" in error.inner_text()
    assert error.get_attribute("data-code") == "not_a_picture"
    error.get_by_role("button").click()
    assert page.locator(".error").count() == 0


def test_answers_are_saved_as_a_table_and_as_a_command(
    page: Any, canary: Callable[..., Artifact], hub: Hub, jpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    hub.add(canary("other", 1))
    page.locator(".task", has_text="other").wait_for()
    files = [tmp_path / f"=picture {number}.jpg" for number in range(3)]
    for number, file in enumerate(files):
        file.write_bytes(jpeg(number))
    page.set_input_files("#files", files)
    page.get_by_text("3 pictures answered").wait_for()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as CSV").click()
    rows = list(csv.DictReader(saved.value.path().read_text("utf-8-sig").splitlines()))
    assert [row["picture"] for row in rows] == [f"'{file.name}" for file in files], "no formula for a spreadsheet"
    assert {row["other"] for row in rows} == {"one"}
    assert {row["other: sure"] for row in rows} == {"sure"}
    page.get_by_role("button", name="Copy as curl").click()
    page.locator(".task", has_text="other").locator("input").uncheck()
    command = page.locator("#curl-line").input_value()
    assert command.startswith("curl -F files=@'=picture 0.jpg' -F tasks='learned' 'http://127.0.0.1:")
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".answer").count() == 0


def test_large_pictures_are_made_smaller_and_only_chosen_tasks_are_asked(
    page: Any, canary: Callable[..., Artifact], hub: Hub, tmp_path: Path
) -> None:
    hub.add(canary("other", 1))
    page.locator(".task", has_text="other").locator("input").uncheck()
    large = tmp_path / "large.jpg"
    Image.new("RGB", (1600, 1200), "red").save(large)
    image = page.locator(".answer img").first
    page.set_input_files("#files", large)
    page.get_by_text("1 picture answered").wait_for()
    assert page.locator(".answer .task-name").all_inner_texts() == ["learned"]
    assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [597, 448]
    page.locator(".task", has_text="learned").locator("input").uncheck()
    page.set_input_files("#files", large)
    page.get_by_text("Tick the tasks").wait_for()
    page.get_by_role("button", name="Ask all").click()
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("send them as they are").check()
    page.set_input_files("#files", large)
    page.get_by_text("1 picture answered").wait_for()
    assert image.evaluate("image => image.naturalWidth") == 1600


def test_a_task_appears_is_looked_into_and_goes(page: Any, canary: Callable[..., Artifact], hub: Hub) -> None:
    page.locator("#inside > summary").click()
    page.locator("#taps .tap").first.wait_for()
    assert page.locator("#taps .tap").count() == len(hub.task("learned").method.selected_mask())
    assert page.locator("#count").inner_text() == "1"
    hub.copy(hub.folder("learned"), "twin")
    page.locator(".task", has_text="twin").wait_for()
    page.locator("#overlap .label", has_text="learned × twin").wait_for()
    assert page.locator("#overlap .number").inner_text().startswith("100 %")
    page.get_by_role("button", name="Do not draw twin").focus()
    page.keyboard.press("Space")
    page.locator("#overlap .bars").wait_for(state="detached")
    assert page.locator(".task", has_text="twin").locator("input").is_checked(), "it is still asked"
    hub.remove("twin")
    page.locator(".task", has_text="twin").wait_for(state="detached")
    assert page.locator("#count").inner_text() == "1"


def test_a_task_tells_its_classes_and_how_well_it_does(page: Any, hub: Hub) -> None:
    task = hub.task("learned")
    per_class = {"zero": {"images": 4, "correct": 3, "recall": 0.75, "predicted": {"zero": 3, "two": 1}}}
    task.metrics.update({"test": {"top1": 0.75, "images": 4}, "per_class": per_class})
    hub.add(task, replace=True)
    page.locator(".task", has_text="right for 75 %").wait_for()
    page.get_by_role("button", name="Details of learned").click()
    dialog = page.get_by_role("dialog", name="learned")
    assert "one of 3 classes" in dialog.inner_text()
    rows = dialog.locator("#class-table tbody tr").all_inner_texts()
    assert rows == ["zero\t4\t75 %\ttwo (1)", "one\t–\t–\t", "two\t–\t–\t"]
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


def test_a_task_is_uploaded_with_the_token_and_an_empty_hub_says_what_to_do(
    page: Any, canary: Callable[..., Artifact], hub: Hub, tmp_path: Path
) -> None:
    folder = canary("new", 1).save(tmp_path / "new")
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#manage summary").click()
    page.fill("#token", "wrong")
    page.fill("#name", "new")
    page.set_input_files("#task-files", sorted(folder.iterdir()))
    page.get_by_role("button", name="Upload").click()
    page.locator("#managed", has_text="the token is wrong").wait_for()
    page.fill("#token", "a token")
    page.get_by_role("button", name="Upload").click()
    page.locator(".task", has_text="new").wait_for()
    page.select_option("#removed", "new")
    page.get_by_role("button", name="Remove").click()
    page.locator(".task", has_text="new").wait_for(state="detached")
    hub.remove("learned")
    page.locator("#empty", has_text="snow train").wait_for()
    assert not page.locator("#samples").is_visible()


def test_the_keyboard_leads_to_the_pictures_and_samples(page: Any) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    page.get_by_role("button", name="a cat").focus()
    page.keyboard.press("Enter")
    page.locator(".answer", has_text="cat.jpg").locator(".verdict").wait_for()
    assert page.evaluate("document.activeElement.id") == "files", "the samples are gone on a phone"


def test_many_tasks_are_found_and_turned_page_by_page(page: Any, hub: Hub) -> None:
    for number in range(30):
        shutil.copytree(hub.folder("learned"), hub.folder(f"copy-{number:02}"))
    page.locator("#page-of", has_text="1 of 2").wait_for()
    assert page.locator(".task").count() == 24
    page.get_by_role("button", name="Next").click()
    assert page.locator(".task").count() == hub_size(hub) - 24
    page.fill("#filter", "copy-17")
    assert page.locator(".task").all_inner_texts()[0].startswith("copy-17")
    assert page.locator(".task").count() == 1
    page.get_by_role("button", name="Leave these out").click()
    assert page.locator("#count").inner_text() == f"{hub_size(hub) - 1} of {hub_size(hub)} asked"


def hub_size(hub: Hub) -> int:
    return len(hub.names())
