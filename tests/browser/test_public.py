"""A page for strangers in the real browser: the budget told, what is beyond it refused in words, no error."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from ddpm_app.engine import Engine, Limits
from ddpm_app.ui import build_app, launch_options
from tests.browser.steps import PATIENCE

pytestmark = pytest.mark.browser
MODEL = "exact-shapes"
LIMITS = Limits((MODEL,), 2000 * 2e4 * 32 * 32, 60.0)  # two thousand images a step


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    demo = build_app(Engine("cpu", limits=LIMITS), MODEL)
    demo.launch(prevent_thread_lock=True, quiet=True, **launch_options(public=True))
    yield demo.local_url
    demo.close()


def test_the_share_of_the_budget_follows_the_sliders_and_too_much_is_said(
    browser: Browser,
    address: str,
):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
    page.goto(address)
    line = page.locator(".budget").first
    expect(line).to_contain_text("Takes 16 % of what one run may take", timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert refused == []
    page.get_by_label("number input for Reverse steps").first.fill("1000")
    page.keyboard.press("Tab")
    expect(line).to_contain_text("Too much here: this run takes 8 times the work", timeout=PATIENCE)
    page.get_by_role("button", name="Generate").first.click()
    expect(page.get_by_text("fewer images, steps or terms").nth(1)).to_be_visible(timeout=PATIENCE)
    page.close()
