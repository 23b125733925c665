"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import re
import shutil

import pytest

from tests.live.fakes import until
from tests.live.peers.servers import need
from vderain.live.web.server import PageServer

CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SAMPLE = """(canvas) => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const columns = [];
  for (let x = 0; x < canvas.width; x += 16) {
    let sum = 0;
    for (let y = 0; y < canvas.height; y += 4) sum += data[4 * (y * canvas.width + x)];
    columns.push(sum / Math.ceil(canvas.height / 4));
  }
  return columns;
}"""


@pytest.fixture(scope="module")
def browser():
    need("browser", CHROMIUM is not None)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, watch, rtsp_server):
    """Open the page over a camera at a size of the window: (page, server of the camera)."""
    made = []

    def start(width=1200, height=800):
        server = rtsp_server(pattern="gradient", size="640x360")
        web = PageServer(watch(server.url, backoff_max_s=1.0), "127.0.0.1", 0, None)
        web.start()
        page = browser.new_page(viewport={"width": width, "height": height})
        page.troubles = []
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on(
            "console",
            lambda m: page.troubles.append(m.text) if "Content Security" in m.text else None,
        )
        page.on("request", lambda r: r.url.startswith(("blob:", "data:", f"http://127.0.0.1:{web.port}/"))
                or page.troubles.append(r.url))  # fmt: skip
        made.append((page, web))
        page.goto(f"http://127.0.0.1:{web.port}/")
        page.wait_for_selector(".camera[data-frame]", timeout=30_000)
        return page, server

    yield start
    for page, web in made:
        page.close()
        web.stop()


def test_both_sides_are_the_same_frame_and_the_slider_moves(open_page):
    page, _ = open_page()
    canvas, slider = page.locator(".image"), page.locator(".slider")

    def columns(value):
        slider.evaluate(f"(s) => {{ s.value = {value}; s.dispatchEvent(new Event('input')); }}")
        return canvas.evaluate(SAMPLE)

    rainy, dry = columns(1000), columns(0)
    # The engine of the test takes five levels of luma away, which black cannot show.
    lower = [r - d for r, d in zip(rainy, dry, strict=True)]
    assert min(lower) > -1 and max(lower) < 12 and sum(d > 2 for d in lower) > len(lower) / 2, lower
    half = columns(500)
    middle = len(half) // 2
    assert half[: middle - 1] == pytest.approx(rainy[: middle - 1], abs=2)
    assert half[middle + 1 :] == pytest.approx(dry[middle + 1 :], abs=2)
    box = page.locator(".view").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert 200 < int(slider.input_value()) < 300
    assert page.locator(".bar").evaluate("(l) => parseFloat(l.style.left)") == pytest.approx(
        25, abs=3
    )
    slider.press("ArrowRight")
    assert not page.troubles


def text(page, selector):
    return page.locator(selector).first.inner_text()


def frame_number(page):
    return int(page.locator(".camera").get_attribute("data-frame"))


def test_numbers_update_and_a_stopped_camera_comes_back(open_page):
    page, server = open_page()
    assert until(lambda: text(page, ".state") == "running")
    first = frame_number(page)
    assert until(lambda: frame_number(page) > first + 5)
    assert until(lambda: re.search(r"[1-9][\d.]* of 2\d", text(page, ".facts")))
    assert until(lambda: page.locator(".plot path").first.get_attribute("d").count("L") >= 3)
    plots = page.locator(".facts div", has=page.locator(".plot path[d*=L]")).locator("dt")
    assert plots.all_inner_texts() == ["Frames per second", "Latency", "Dropped", "Tier"]
    server.kill()
    assert until(lambda: "No live frames" in page.locator(".notice").inner_text(), 20)
    assert "old" in page.locator(".view").get_attribute("class")
    assert text(page, ".state") != "running"
    stopped = frame_number(page)
    server.start()
    assert until(lambda: text(page, ".state") == "running", 30)
    assert until(lambda: frame_number(page) > stopped, 20)
    assert until(lambda: page.locator(".notice").is_hidden())
    assert until(lambda: "1 times" in text(page, ".facts"))
    with page.expect_download() as download:
        page.locator(".still").click()
    assert download.value.suggested_filename.endswith(".png")
    assert not page.troubles


def test_it_fits_a_phone(open_page):
    page, _ = open_page(width=360, height=740)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
    box = page.locator(".view").bounding_box()
    assert box["width"] > 280 and box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert not page.troubles


def test_a_camera_that_never_showed_anything_has_no_slider(browser, watch):
    web = PageServer(watch("rtsp://127.0.0.1:9/none"), "127.0.0.1", 0, None)
    web.start()
    page = browser.new_page()
    try:
        page.goto(f"http://127.0.0.1:{web.port}/")
        assert until(lambda: "No live frames" in text(page, ".notice"))
        for part in (".slider", ".bar", "em.l", ".still"):
            assert page.locator(part).is_hidden(), part
        assert "cannot be read" in text(page, ".reason")
    finally:
        page.close()
        web.stop()
