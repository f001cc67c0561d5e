"""The page in a real browser, with the official weights and a photograph."""

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tiny_server import served

from yolo_jax.networks.pretrained import PretrainedUnavailable, fetch_pretrained

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]
PATIENCE_MS = 120_000
SEEN = ["car", "bicycle", "dog", "truck"]
# A script's drop: no browser's driver drags files from outside.
DROP = """([name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt())], name));
  document.querySelector("#stage").dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        fetch_pretrained()
    except PretrainedUnavailable as error:
        pytest.skip(str(error))
    command = ["-m", "yolo_jax", "serve", "yolov3-tiny", "--port", "0", "--concurrency", "1"]
    log = tmp_path_factory.mktemp("page") / "log.txt"
    with served(command, log) as (_, port):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Returns the opened page, which by the end of a test met no fault and asked nobody else."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    faults: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    expect(page.locator("#about")).to_have_text("80 classes, input of 416 × 416 px")
    yield page
    assert [fault for fault in faults if "status of 4" not in fault] == []
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
    context.close()


def names(page: Page) -> list[str]:
    return page.locator("#found li span").all_inner_texts()


def move(page: Page, slider: str, value: float, count: int) -> None:
    """Moves a slider, and waits for so many objects."""
    page.locator(slider).fill(str(value))
    expect(page.locator("#found li")).to_have_count(count, timeout=PATIENCE_MS)


def drop(page: Page, name: str, content: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def drawn(page: Page) -> np.ndarray:
    with Image.open(io.BytesIO(page.locator("#canvas").screenshot())) as picture:
        return np.asarray(picture.convert("RGB"), int)


def test_an_image_is_looked_at_again_at_each_move_of_a_slider(page: Page, golden: Path):
    page.set_input_files("#file", golden / "dog.jpg")
    expect(page.locator("#status")).to_contain_text("4 objects in", timeout=PATIENCE_MS)
    assert names(page) == SEEN
    boxed = drawn(page)
    green = np.abs(boxed - (34, 136, 51)).max(axis=-1) < 12  # the car's
    height, width = green.shape
    # Of the car's box, x from 465 to 677 of 768 px: its sides, and little elsewhere.
    columns = np.flatnonzero(green.sum(axis=0) > 0.1 * height) / width
    assert columns.min() == pytest.approx(465.4 / 768, abs=0.01)
    assert columns.max() == pytest.approx(677.4 / 768, abs=0.01)
    move(page, "#conf", 0.6, 1)
    assert names(page) == ["car"]
    expect(page.locator("#conf-value")).to_have_text("0.60")
    move(page, "#conf", 0.99, 0)
    assert page.locator("#status").inner_text().startswith("No objects")
    assert (np.abs(drawn(page) - boxed).max(axis=-1) > 60).sum() > 1000  # the boxes are gone
    move(page, "#conf", 0.25, 4)
    page.locator("#iou").fill("1")
    expect(page.locator("#found li").nth(6)).to_be_visible(timeout=PATIENCE_MS)


def test_the_json_is_what_the_command_writes(page: Page, golden: Path):
    page.set_input_files("#file", golden / "dog.jpg")
    button = page.get_by_role("button", name="Download JSON")
    expect(button).to_be_enabled(timeout=PATIENCE_MS)
    with page.expect_download() as waiting:
        button.click()
    assert waiting.value.suggested_filename == "dog.json"
    (found,) = json.loads(Path(waiting.value.path()).read_text())
    assert [found[key] for key in ("image", "width", "height", "conf", "iou")] == [
        "dog.jpg", 768, 576, 0.25, 0.45,
    ]  # fmt: skip
    assert [one["class"] for one in found["detections"]] == SEEN
    np.testing.assert_allclose(
        found["detections"][2]["box"], [129.1, 186.4, 369.8, 516.9], atol=0.5
    )


def test_what_is_pointed_at_stands_out(page: Page, golden: Path):
    page.set_input_files("#file", golden / "dog.jpg")
    expect(page.locator("#found li")).to_have_count(4, timeout=PATIENCE_MS)
    before = drawn(page)
    page.locator("#found li").nth(2).hover()
    assert page.locator("#found li").nth(2).get_attribute("class") == "marked"
    assert np.abs(drawn(page) - before).max() > 60
    size = page.locator("#canvas").bounding_box()
    at_dog = {"x": size["width"] * 150 / 768, "y": size["height"] * 400 / 576}
    page.locator("#canvas").hover(position=at_dog)
    assert page.locator("#found li.marked span").inner_text() == "dog"


def test_dropped_and_broken_ones(page: Page, golden: Path):
    whole = (golden / "person.jpg").read_bytes()
    drop(page, "person.jpg", whole)
    expect(page.locator("#found li").first).to_be_visible(timeout=PATIENCE_MS)
    assert "person" in names(page)
    page.get_by_role("button", name="Another image").click()
    expect(page.locator("#drop")).to_be_visible()
    expect(page.get_by_role("button", name="Download JSON")).to_be_disabled()
    drop(page, "cut.jpg", whole[:20_000])
    expect(page.locator("#status.bad")).to_contain_text("damaged or cut short", timeout=PATIENCE_MS)
    expect(page.locator("#found li")).to_have_count(0)
    drop(page, "notes.txt", b"no image")
    expect(page.locator("#status.bad")).to_contain_text("expected one of JPEG", timeout=PATIENCE_MS)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_is_legible_in_either_scheme(
    browser: Browser, address: str, golden: Path, width: int, scheme: str
):
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, is_mobile=width < 600
    )
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#about")).not_to_be_empty(timeout=PATIENCE_MS)
    page.set_input_files("#file", golden / "dog.jpg")
    expect(page.locator("#found li")).to_have_count(4, timeout=PATIENCE_MS)
    sides = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert page.evaluate(sides) == [width, width]
    ground, text = (
        int(page.evaluate(f"getComputedStyle(document.body).{name}").split("(")[1].split(",")[0])
        for name in ("backgroundColor", "color")
    )
    assert (ground > text) == (scheme == "light")
    assert abs(ground - text) > 180
    if "SHOTS" in os.environ:
        page.wait_for_timeout(300)
        page.screenshot(path=f"{os.environ['SHOTS']}/{width}_{scheme}.png", full_page=True)
    context.close()
