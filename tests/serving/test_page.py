"""The page in a real browser: pictures, answers, errors, tasks that appear, the keyboard, a phone."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

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
    opened.locator("button.task", has_text="learned").wait_for()
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
    page.locator(".answer:not(.working)").nth(1).wait_for()
    assert page.locator(".answer .verdict h3").all_inner_texts() == ["learned", "learned"]
    best = hub.predict([files[0]])[0]["learned"]
    card = page.locator(".answer", has_text="one.jpg")
    assert card.locator(".bars .label").all_inner_texts() == list(best.classes)
    assert card.locator(".bars .number").first.inner_text().startswith(f"{100 * best.probabilities[0]:.0f}")
    assert "ms" in card.locator("figcaption").inner_text()
    error = page.get_by_role("alert").locator(".error")
    error.wait_for()
    assert "notes.txt" in error.inner_text()
    assert "not_a_picture" in error.inner_text()
    error.get_by_role("button").click()
    assert page.locator(".error").count() == 0


def test_a_task_appears_is_looked_into_and_goes(page: Any, canary: Callable[..., Artifact], hub: Hub) -> None:
    page.locator("#taps .tap").first.wait_for()
    assert page.locator("#taps .tap").count() == len(hub.task("learned").method.selected_mask())
    assert page.locator("#count").inner_text() == "1"
    hub.copy(hub.folder("learned"), "twin")
    twin = page.locator("button.task", has_text="twin")
    twin.wait_for()
    page.locator("#overlap .label", has_text="learned × twin").wait_for()
    assert page.locator("#overlap .number").inner_text().startswith("100 %")
    twin.focus()
    page.keyboard.press("Space")
    page.locator("#overlap .bars").wait_for(state="detached")
    assert twin.get_attribute("aria-pressed") == "false"
    hub.remove("twin")
    twin.wait_for(state="detached")
    assert page.locator("#count").inner_text() == "1"


def test_a_task_is_uploaded_with_the_token(page: Any, canary: Callable[..., Artifact], tmp_path: Path) -> None:
    folder = canary("new", 1).save(tmp_path / "new")
    page.locator("#manage summary").click()
    page.fill("#token", "wrong")
    page.fill("#name", "new")
    page.set_input_files("#task-files", sorted(folder.iterdir()))
    page.get_by_role("button", name="Upload").click()
    page.locator("#managed", has_text="unauthorized").wait_for()
    page.fill("#token", "a token")
    page.get_by_role("button", name="Upload").click()
    page.locator("button.task", has_text="new").wait_for()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove").click()
    page.locator("button.task", has_text="new").wait_for(state="detached")


def test_the_first_key_leads_to_the_pictures(page: Any) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"


def test_many_tasks_are_found_and_turned_page_by_page(page: Any, hub: Hub) -> None:
    for number in range(30):
        shutil.copytree(hub.folder("learned"), hub.folder(f"copy-{number:02}"))
    page.locator("#page-of", has_text="1 of 2").wait_for()
    assert page.locator("button.task").count() == 24
    page.get_by_role("button", name="Next").click()
    assert page.locator("button.task").count() == hub_size(hub) - 24
    page.fill("#filter", "copy-17")
    assert page.locator("button.task").all_inner_texts()[0].startswith("copy-17")
    assert page.locator("button.task").count() == 1


def hub_size(hub: Hub) -> int:
    return len(hub.names())
