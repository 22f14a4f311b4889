"""The state diagrams as a browser draws them: no label on another, no arrow behind a box or through a state.

Without Chromium or Mermaid these tests are skipped; in CI they fail. HOLDFAST_SCREENSHOTS names a folder
for screenshots.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from support.layout import Box, Drawn, faults
from support.mermaid import START, arrows

from lifecycle.statechart import mermaid, mermaid_attempt

pytestmark = pytest.mark.acceptance

CHROMIUM = Path(shutil.which("chromium") or shutil.which("google-chrome") or "chromium")
MERMAID = Path(__file__).parents[2] / ".venv" / "mermaid.min.js"
MEASURE = Path(__file__).with_name("diagram.js").read_text()
OFFLINE = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
BACKGROUNDS = {"default": "#ffffff", "dark": "#0d1117"}  # of GitHub's pages
README_WIDTH = 830
DIAGRAMS = {"job": mermaid, "attempt": mermaid_attempt}
VIEWS = {  # theme, font, width; Mermaid's own font and the natural width unless given
    "light": ("default", "", 0),
    "dark": ("dark", "", 0),
    "readme-light": ("default", "", README_WIDTH),
    "readme-dark": ("dark", "", README_WIDTH),
    "wide-letters": ("default", "monospace", 0),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield the machine's Chromium or Chrome."""
    for needed, remedy in ((CHROMIUM, "apt-get install chromium"), (MERMAID, "make .venv/mermaid.min.js")):
        if not needed.exists():
            if os.environ.get("CI"):
                pytest.fail(f"there is no {needed}, and CI must not skip what needs it: run `{remedy}`")
            pytest.skip(f"there is no {needed}: run `{remedy}`")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OFFLINE)
        yield started
        started.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    """Yield a page that has loaded Mermaid."""
    opened = browser.new_page(viewport={"width": 1600, "height": 1200})
    opened.set_content('<body style="margin: 16px"><div id="diagram"></div></body>')
    opened.add_script_tag(path=MERMAID)
    return opened


def draw(page: Page, text: str, view: str = "light") -> list[str]:
    """Draw the diagram and return its faults, missing arrows and labels included."""
    theme, font, width = VIEWS[view]
    page.evaluate("color => { document.body.style.background = color }", BACKGROUNDS[theme])
    found = page.evaluate(MEASURE, [text, theme, font, width])
    drawn, missing = [], []
    for number, arrow in enumerate(arrows(text)):
        loop = f"{arrow.source}-loop"
        key = loop if loop in found["paths"] and arrow.source == arrow.target else f"edge{number}"
        points, label = found["paths"].pop(key, None), found["labels"].pop(key, None)
        if points:
            drawn.append(Drawn(arrow.source, arrow.target, points, Box(*label) if label else None))
        if not points or bool(label) != bool(arrow.label):
            missing.append(f"{arrow.source} → {arrow.target}: {arrow.label} is not drawn")
    assert not found["paths"], "these belong to no arrow of the text"
    return missing + faults({name: Box(*box) for name, box in found["states"].items()}, drawn)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("diagram", DIAGRAMS)
def test_the_diagrams_are_legible(page: Page, diagram: str, view: str) -> None:
    """Labels, arrows and states keep clear of each other in both themes, at README width, and with wide letters."""
    assert draw(page, DIAGRAMS[diagram](), view) == []
    if folder := os.environ.get("HOLDFAST_SCREENSHOTS"):
        page.locator("#diagram").screenshot(path=Path(folder) / f"states-{diagram}-{view}.png")


def test_the_larger_diagram_fits_a_readme(page: Page) -> None:
    """At README width the larger diagram is not scaled down, so its text has full size."""
    draw(page, mermaid())
    box = page.locator("#diagram svg").bounding_box()
    assert box
    assert box["width"] <= README_WIDTH


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["a --> a: one", "a --> a: two"], "a → a: one is not drawn"),
        (["a --> a: again", "a --> b: left", "a --> c: right"], "the labels of a → a and a → c overlap"),
    ],
)
def test_bad_drawings_are_detected(page: Page, lines: list[str], fault: str) -> None:
    """The check detects lost and crossing arrows: Mermaid draws only a state's last loop, across its other arrows."""
    assert fault in draw(page, "\n".join(["stateDiagram-v2", f"{START} --> a", *lines]))
