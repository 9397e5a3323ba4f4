"""Screenshots of the web page for the documentation, at the width of a desktop and of a phone: drawn clips only.

python docs/screenshots.py        writes docs/img/demo.png and demo_phone.png; needs emozoo[demo], playwright, chromium
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

IMAGES = Path(__file__).parent / "img"
SIZES = {"demo.png": (1280, 1010), "demo_phone.png": (390, 1500)}
MOMENT = 0.12  # of the video, chosen by a click on the timeline


def take(browser: Browser, address: str, file: Path, size: tuple[int, int]) -> None:
    """Predicts the drawn video, goes to a moment of it and photographs the page."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(address)
    page.locator(".ez-examples").get_by_role("button", name="Video").click()
    page.locator('#file [aria-label="drawn_person.mp4"]').wait_for()
    page.get_by_role("button", name="Predict").locator("visible=true").click()
    line = page.locator(".ez-timeline")
    line.wait_for(timeout=300_000)
    page.wait_for_function("document.querySelector('video.ez-media').readyState >= 2")
    box = line.bounding_box()
    assert box is not None
    line.click(position={"x": MOMENT * box["width"], "y": 10})
    page.wait_for_function("!document.querySelector('video.ez-media').seeking")
    page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
    page.mouse.move(0, 0)
    page.wait_for_timeout(4000)  # until the controls of the video fade
    page.screenshot(path=file)
    page.close()


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no chromium: apt-get install chromium")
    command = [sys.executable, "-m", "emozoo", "demo", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().removeprefix("emozoo demo: ").split(" ")[0]
            with sync_playwright() as tools:
                browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                for name, size in SIZES.items():
                    take(browser, address, IMAGES / name, size)
                browser.close()
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
