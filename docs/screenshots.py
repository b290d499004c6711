"""Takes the screenshots of ``docs/demo.md``, after `make demo` installed its packages.

``python docs/screenshots.py`` needs Chromium, and a finished run of each recipe in
``runs``; a folder given as its argument takes the place of ``runs``.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

from pictures import copy
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
SEVEN = (0.37, 0.2), (0.63, 0.2), (0.5, 0.5), (0.42, 0.85)


def take(page, address):
    """Draw a digit, read 14 rows of it, read a review: save a picture of both."""
    page.goto(address)
    page.get_by_text("Nothing is drawn yet").wait_for()
    page.wait_for_timeout(2000)
    box = page.locator("canvas").last.bounding_box()
    points = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SEVEN
    ]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=10)
    page.mouse.up()
    page.get_by_test_id("label-output-value").first.wait_for()
    page.get_by_role("slider").first.fill("24")
    page.wait_for_timeout(4000)
    save(page, "demo-digit.png")
    page.get_by_role("tab", name="Review").click()
    page.get_by_role("button", name="Read it").click()
    page.get_by_text("probability of good").wait_for()
    page.wait_for_timeout(4000)
    save(page, "demo-review.png")


def save(page, name):
    """Save a picture of the whole page."""
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder) / name
        page.screenshot(path=whole, full_page=True)
        copy(whole, IMAGES / name)


def main(runs="runs"):
    """Serve the page and take the pictures."""
    command = [sys.executable, "-m", "recipes", "demo", "--port", "0", "--runs", runs]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo:
        try:
            address = demo.stdout.readline().split()[1]
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                take(browser.new_page(viewport={"width": 1200, "height": 900}), address)
                browser.close()
        finally:
            demo.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
