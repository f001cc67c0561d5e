"""The page in a real browser: what it draws, sorts and filters, and that it asks for no network."""

import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from tiny_runs import WILD

from yolo_jax import cli

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]
# Root may not have the sandbox; parallel coordinates are drawn by WebGL, here without a GPU.
FLAGS = ["--no-sandbox", "--enable-unsafe-swiftshader"]
DRAWN = "document.querySelectorAll('.canvas[data-drawn]').length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(sweep: Path, damaged: dict[str, Path], tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    runs = [str(sweep), *map(str, damaged.values())]
    assert cli.main(["report", *runs, "--out", str(out)]) == 0
    return out


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """Returns the opened page; nothing may have gone wrong on it by the end of a test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    # Without a GPU WebGL tells of its slowness; Plotly's own complaints are of another kind.
    page.on(
        "console",
        lambda said: faults.append(said.text) if "GL Driver Message" not in said.text else None,
    )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    yield page
    assert faults == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def column(page: Page, table: str, number: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr:not([hidden]) > :nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def test_the_table_sorts_by_mouse_and_keyboard(page: Page):
    table = "section:first-of-type table.runs"
    heads = page.locator(f"{table} thead th")
    names = [text.strip() for text in heads.all_inner_texts()]
    figures = ["validation loss", "validation AP50", "held-out AP50", "held-out AP"]
    assert names[:8] == ["run", "state", *figures, "learning_rate", "seed"]
    number = names.index("validation loss") + 1
    button = heads.nth(number - 1).locator("button")
    button.click()
    assert heads.nth(number - 1).get_attribute("aria-sort") == "ascending"
    rising = column(page, table, number)
    assert rising[4:] == ["–", "–"]
    assert rising[:4] == sorted(rising[:4], key=float)
    button.press("Enter")
    assert heads.nth(number - 1).get_attribute("aria-sort") == "descending"
    # What has no value stands last either way.
    assert column(page, table, number) == [*rising[3::-1], "–", "–"]
    heads.nth(6).locator("button").click()
    assert page.locator(f"{table} [aria-sort]").count() == 1
    assert column(page, table, 7) == ["0.001", "0.001", *("≠ 0.01",) * 2, "≠ 9", "≠ 10"]


def test_the_table_filters_by_words(page: Page):
    section = page.locator("section").first
    section.get_by_label("Filter").fill("Complete learning_rate=0.01")
    assert section.locator("[aria-live]").inner_text() == "2 of 6 runs"
    shown = column(page, "section:first-of-type table.runs", 1)
    assert shown == ["learning_rate=0.01,seed=0", "learning_rate=0.01,seed=1"]
    section.get_by_label("Filter").fill("")
    assert section.locator("[aria-live]").inner_text() == "6 of 6 runs"


def test_plots_are_drawn_when_they_are_seen(page: Page):
    coordinates = page.locator("#set-0-coordinates")
    coordinates.scroll_into_view_if_needed()
    coordinates.locator(".axis-title").first.wait_for()
    labels = coordinates.locator(".axis-title").all_text_contents()
    assert labels[:3] == ["learning_rate", "seed", "validation loss"]
    page.wait_for_timeout(500)  # lines are drawn in the frames that follow
    with Image.open(BytesIO(coordinates.screenshot())) as picture:
        pixels = np.asarray(picture.convert("RGB"), int)
    assert (np.ptp(pixels, axis=-1) > 60).sum() > 200  # in colours, which text and axes have not
    before = page.evaluate(DRAWN)
    run = page.locator("details.run").first
    assert run.get_attribute("open") is None
    page.locator("table.runs a").first.click()
    assert run.get_attribute("open") is not None
    run.locator("summary").first.click()
    assert run.get_attribute("open") is None
    page.locator("table.runs a").first.click()  # the address is the same
    assert run.get_attribute("open") is not None
    for name in ("losses", "terms", "ap", "precision", "confusion", "speed"):
        place = page.locator(f"#run-1-{name}")
        place.scroll_into_view_if_needed()
        place.locator(".main-svg").first.wait_for()
    assert page.evaluate(DRAWN) >= before + 6
    pictures = run.locator("img")
    assert pictures.count() == 6
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        picture.evaluate("one => one.decode()")
        assert picture.evaluate("one => one.naturalWidth") == 384  # eight times 48


def test_it_shows_groups_failures_and_what_is_broken(page: Page, damaged: dict[str, Path]):
    groups = page.locator("table").first.locator("tbody tr")
    assert {text.split("\t")[0] for text in groups.all_inner_texts()} == {
        "base",
        "learning_rate=0.01",
    }
    assert all("(n = 2)" in text for text in groups.all_inner_texts())
    # Copies of one run are of one seed.
    assert "n =" not in page.locator("section:last-of-type tbody tr").first.inner_text()
    states = column(page, "section:last-of-type table.runs", 2)
    assert states == [
        "broken",
        "broken",
        "unfinished",
        "complete",
        "broken",
        "broken",
        "complete",
    ]
    text = page.locator("main").text_content() or ""
    for told in (
        "diverged: the loss of step 3 was not finite",
        "yolo-jax: the loss of step 3",
        "is cut or damaged from line 4 on",
        "3 of 3 epochs are written down, and there are no held-out figures yet",
        "Not there, and shown without: held_out.json",
        "for a run of the same config and seed is there already: cut, unfinished, bare",
        "close_mosaic has no effect without augment.mosaic, mixup or copy",
    ):
        assert told in " ".join(text.split()), told


def test_names_are_shown_and_not_run(page: Page):
    """The page's own fixture fails at a dialog, an error or a request."""
    assert WILD in column(page, "section:last-of-type table.runs", 1)
    matrix = page.locator("#run-1-confusion")
    page.evaluate("document.querySelector('.run').open = true")
    matrix.scroll_into_view_if_needed()
    matrix.locator("g.xtick text").first.wait_for()
    names = matrix.locator("g.xtick text").all_text_contents()
    assert names == ["ash", f"{WILD[:15]}…", "background"]
    page.locator("#set-1-loss").scroll_into_view_if_needed()
    page.locator("#set-1-loss .legendtext").first.wait_for()
    assert WILD in page.locator("#set-1-loss .legendtext").all_text_contents()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_is_legible_in_either_scheme(browser: Browser, report: Path, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, is_mobile=width < 600
    )
    page = context.new_page()
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.evaluate("document.querySelectorAll('.canvas').forEach(draw)")
    sides = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert page.evaluate(sides) == [width, width]
    brightness = page.evaluate(
        """() => ["--page", "--text"].map((name) => {
          const hex = colour(name).replace(/^#(.)(.)(.)$/, "#$1$1$2$2$3$3");
          return parseInt(hex.slice(1, 3), 16);
        })"""
    )
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    assert abs(brightness[0] - brightness[1]) > 180
    texts = json.loads(
        page.evaluate(
            """() => JSON.stringify([...document.querySelectorAll("#run-1-losses text")]
              .map((one) => getComputedStyle(one).fill))"""
        )
    )
    assert texts
    assert set(texts) == {page.evaluate("getComputedStyle(document.body).color")}
    context.close()


def test_plots_follow_a_change_of_scheme(page: Page):
    page.locator("#set-0-loss").scroll_into_view_if_needed()
    page.locator("#set-0-loss .xtick text").first.wait_for()
    fill = "getComputedStyle(document.querySelector('#set-0-loss .xtick text')).fill"
    light = page.evaluate(fill)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{fill} !== '{light}'")
