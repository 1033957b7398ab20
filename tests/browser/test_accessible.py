"""Every tab as axe-core judges it: nothing that keeps somebody out."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.steps import PATIENCE, barriers, fill, open_tab, press, status

pytestmark = [pytest.mark.browser, pytest.mark.timeout(480)]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_tab_has_a_serious_barrier(browser: Browser, url: str, theme: str):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{url}?__theme={theme}")
    expect(page.get_by_text("T = 1000")).to_be_visible(timeout=PATIENCE)
    fill(page, "Reverse steps", 2)
    press(page, "Generate")
    expect(status(page)).to_contain_text("16 pictures ·", timeout=PATIENCE)
    names = [tab.inner_text() for tab in page.get_by_role("tab").filter(visible=True).all()]
    assert len(names) > 10
    found = {}
    for name in names:
        open_tab(page, name)
        expect(page.get_by_role("tabpanel").filter(visible=True).first).to_be_visible(timeout=PATIENCE)
        page.wait_for_timeout(300)  # for what fades in
        found |= {name: barriers(page)}
    page.close()
    assert {name: broken for name, broken in found.items() if broken} == {}
