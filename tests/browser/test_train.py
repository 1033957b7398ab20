"""A visitor trains a model, reloads, pauses, and finds it in the list; a second visitor sees the same."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ddpm_app.engine import Engine
from ddpm_app.training import runs
from ddpm_app.ui import build_app, launch_options
from tests.browser.steps import PATIENCE, open_tab, press, status

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A page whose models are this test's own."""
    demo = build_app(Engine("cpu", tmp_path / "checkpoints"), "exact-shapes")
    demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield demo.local_url
    demo.close()
    while name := runs.active(tmp_path / "checkpoints"):
        runs.stop(tmp_path / "checkpoints" / name)
        time.sleep(0.1)


def visit(browser: Browser, address: str) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    open_tab(page, "Train")
    return page


def test_a_run_survives_a_reload_and_is_seen_by_all(browser: Browser, address: str, tmp_path: Path):
    page = visit(browser, address)
    for label, value in (("Image size", "8"), ("Batch size", "2")):
        page.get_by_label(label).fill(value)
        page.get_by_label(label).blur()
    press(page, "Start training")
    expect(status(page)).to_contain_text("Loading", timeout=PATIENCE)
    page.reload()
    open_tab(page, "Train")
    other = visit(browser, address)
    for visitor in (page, other):
        expect(status(visitor)).to_contain_text("images/s", timeout=PATIENCE)
    press(other, "Pause")
    for visitor in (page, other):
        expect(status(visitor)).to_contain_text("Paused at step", timeout=PATIENCE)
    press(page, "Use this model in the other tabs")
    expect(page.get_by_text("8 × 8 gray")).to_be_visible(timeout=PATIENCE)
    other.once("dialog", lambda dialog: dialog.dismiss())
    press(other, "Stop")
    expect(status(other)).to_contain_text("Paused at step")
    other.once("dialog", lambda dialog: dialog.accept())
    press(other, "Stop")
    expect(status(other)).to_contain_text("Ended at step", timeout=PATIENCE)
    assert not (tmp_path / "checkpoints" / "my-model" / "training_state.pt").exists()
