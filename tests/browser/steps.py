"""What a visitor does on the page, for every browser test."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

PATIENCE = 60_000  # milliseconds
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "resultTypes": ["violations"],
}


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).filter(visible=True).click()


def fill(page: Page, label: str, value: int) -> None:
    box = page.get_by_label(f"number input for {label}").filter(visible=True)
    box.fill(str(value))
    box.blur()


def press(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).filter(visible=True).click()


def status(page: Page):
    return page.locator(".status").filter(visible=True)


def sheet_source(page: Page) -> str:
    return page.locator(".sheet img").filter(visible=True).first.get_attribute("src") or ""


def barriers(page: Page) -> list[tuple[str, str]]:
    """What is serious or critical: the rule, and the first element that breaks it."""
    return [
        (each["id"], each["nodes"][0]["html"])
        for each in Axe().run(page, options=RULES).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
