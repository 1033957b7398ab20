"""A headless Chromium, and the page of the server that tests/ui has too."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ddpm_app.engine import Engine
from tests.browser.steps import PATIENCE
from tests.ui.conftest import MODEL, engine, url  # noqa: F401 - fixtures

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "no Chromium here: install the package chromium"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def slow(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The page's model takes its time over each step, so that a run is met on its way."""
    model = engine.model(MODEL)

    def denoiser(x_t, t):
        time.sleep(0.05)
        return model.denoiser(x_t, t)

    kept = engine.workers[0].shelf._kept[MODEL, "exact"]
    monkeypatch.setattr(kept, "model", replace(model, denoiser=denoiser))


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:  # noqa: F811
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    expect(page.get_by_text("T = 1000")).to_be_visible(timeout=PATIENCE)
    yield page
    page.close()
    assert errors == []
