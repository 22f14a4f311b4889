"""The dashboard in a real browser: a real worker changes jobs, and an open page follows without a reload.

Without Chromium these tests are skipped; in CI they fail. HOLDFAST_SCREENSHOTS names a folder for screenshots.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from support.process_cluster import ProcessCluster

from lifecycle.states import State

pytestmark = pytest.mark.acceptance

PATIENCE_MS = 60_000
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TALKER = """[talker]
command = "sh -c 'for n in $(seq 1 600); do echo line $n; sleep 0.2; done'"
"""
SIZES = {"desktop-light": (1280, 800, "light"), "desktop-dark": (1280, 800, "dark"), "phone": (375, 812, "light")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield the machine's Chromium or Chrome."""
    if not CHROMIUM:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed, and CI must not skip what needs it")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def serve(files: ProcessCluster) -> Iterator[Callable[..., str]]:
    """Yield a function that starts `holdfast dashboard` and returns its URL; each must end with 0 on SIGTERM."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "client.cli", "dashboard", "--port", "0", *words],
            env=files.environ(),
            cwd=files.home,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout
        return process.stdout.readline().split()[-1]

    yield start
    codes = []
    for process in running:
        process.terminate()
        process.communicate(timeout=30)
        codes.append(process.returncode)
    assert codes == [0] * len(running)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page that fails the test on any script error or policy violation."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    yield opened
    context.close()
    assert errors == []


def shows(page: Page, state: str, count: int) -> None:
    expect(page.locator(f'.diagram.wide [data-count="{state}"]')).to_have_text(str(count), timeout=PATIENCE_MS)


def test_counts_change_as_a_job_moves(files: ProcessCluster, serve: Callable[..., str], page: Page) -> None:
    """The counts follow without a reload, and the keyboard reaches a state's jobs and a job."""
    for job in ("a", "b"):
        files.submit(job, step_s=0.004)
    page.goto(serve())
    shows(page, "queued", 2)
    page.evaluate("window.untouched = true")
    files.worker("--idle-exit", "1s")
    shows(page, "completed", 2)
    shows(page, "queued", 0)
    expect(page.locator("#latest .badge.completed")).to_have_count(2, timeout=PATIENCE_MS)
    assert page.evaluate("window.untouched") is True
    page.locator('.diagram.wide a[href="/jobs?state=completed"]').focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("completed")
    page.get_by_role("link", name="a", exact=True).press("Enter")
    expect(page.locator("#path .diagram.wide .state.here")).to_contain_text("completed")
    for way in ("waiting-received", "received-input_loaded", "input_loaded-running", "working-completed"):
        expect(page.locator(f'.diagram.wide .taken[data-arrow="{way}"]')).to_have_count(1)
    expect(page.locator(".diagram.wide .taken[data-arrow=owned-failed]")).to_have_count(0)
    expect(page.locator("#plot-progress canvas")).to_be_visible()
    expect(page.locator("#plot-checkpoints canvas")).to_be_visible()


def test_cancel_asks_first(files: ProcessCluster, serve: Callable[..., str], page: Page) -> None:
    """Leaving the form changes nothing; confirming cancels the job, and its page follows."""
    files.submit("a", step_s=0.05)
    files.worker()
    files.until("a", lambda record: record.state is State.RUNNING)
    page.goto(f"{serve()}jobs/a")
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_role("link", name="Go back").click()
    assert not files.record("a").control.cancel
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_role("button", name="Cancel job").click()
    expect(page.locator("h1 .badge")).to_have_text("cancelled", timeout=PATIENCE_MS)
    assert files.record("a").state is State.CANCELLED
    page.get_by_role("link", name="Retry…").click()
    page.get_by_role("button", name="Retry job").click()
    files.until("a", lambda record: record.epoch >= 2)


def test_the_console_follows(files: ProcessCluster, serve: Callable[..., str], page: Page) -> None:
    """A workload's new output appears on the open page, once each."""
    (files.home / "workloads.toml").write_text(TALKER)
    assert files.holdfast("submit", "--no-input", "talk", "--workload", "talker").returncode == 0
    page.goto(f"{serve()}jobs/talk")
    files.worker()
    console = page.locator("#console")
    expect(console).to_contain_text("line 5\n", timeout=PATIENCE_MS)
    before = len(console.inner_text())
    page.wait_for_function("before => document.getElementById('console').textContent.length > before", arg=before)
    lines = re.findall(r"line (\d+)\n", console.text_content() or "")
    assert [int(line) for line in lines] == list(range(1, len(lines) + 1))


def test_the_token_in_the_url_becomes_a_cookie(files: ProcessCluster, serve: Callable[..., str], page: Page) -> None:
    """After one visit with the token the cookie is enough, also for the stream, and the URL has no token."""
    files.submit("a")
    address = serve("--token", "a-token-that-is-long-enough")
    answer = page.goto(address.partition("?")[0])
    assert answer
    assert answer.status == 401
    page.goto(address)
    assert page.url == address.partition("?")[0]
    expect(page.locator("#live-text")).to_have_text("live")
    shows(page, "queued", 1)


def test_no_page_is_wider_than_the_screen(files: ProcessCluster, serve: Callable[..., str], browser: Browser) -> None:
    """No page scrolls sideways, on desktop or phone, light or dark; screenshots are saved on request."""
    folder = os.environ.get("HOLDFAST_SCREENSHOTS")
    for number in range(1, 6):
        files.submit(f"relax-{number:02d}", step_s=0.01 if number < 3 else 0.001)
    assert files.holdfast("submit", "--no-input", "odd-one", "--workload", "nowhere").returncode == 0
    files.worker()
    files.worker()
    files.until("relax-02", lambda record: record.progress.done and record.progress.done > 1500)
    address = serve()
    for name, (width, height, scheme) in SIZES.items():
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        for what in ("", "jobs", "jobs/relax-02", "nodes", "jobs/relax-02/cancel"):
            page.goto(f"{address}{what}")
            expect(page.locator("#live-text")).to_have_text("live", timeout=PATIENCE_MS)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, what)
            if folder:
                page.screenshot(path=Path(folder, f"{name}-{what.replace('/', '-') or 'states'}.png"))
        context.close()
