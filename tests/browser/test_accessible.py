"""Every tab as axe-core judges it: nothing that keeps somebody out."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_page import PATIENCE, browser, fill, open_tab, press, status  # noqa: F401
from tests.ui.conftest import engine, url  # noqa: F401 - the same real server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(480)]
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "resultTypes": ["violations"],
}


def barriers(page: Page) -> list[tuple[str, str]]:
    """What is serious or critical: the rule, and the first element that breaks it."""
    return [
        (each["id"], each["nodes"][0]["html"])
        for each in Axe().run(page, options=RULES).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_tab_has_a_serious_barrier(browser: Browser, url: str, theme: str):  # noqa: F811
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{url}?__theme={theme}")
    expect(page.get_by_text("T = 1000")).to_be_visible(timeout=PATIENCE)
    fill(page, "Reverse steps", 2)
    press(page, "Generate")
    expect(status(page)).to_contain_text("16 pictures in", timeout=PATIENCE)
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
