"""A run handed on: as a picture dropped in, as a link opened, as code copied."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from ddpm_app.engine import Engine
from ddpm_app.pictures import read_recipe
from tests.browser.steps import PATIENCE, barriers, fill, open_tab, press, status
from tests.waiting import wait_until

pytestmark = pytest.mark.browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    context.close()


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.goto(address)
    expect(page.get_by_text("T = 1000")).to_be_visible(timeout=PATIENCE)
    return page


def downloaded(page: Page, file: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_text("Sheet as PNG").filter(visible=True).click()
    download.value.save_as(file)
    return file


def replay(page: Page) -> None:
    page.get_by_text("Replay a picture or a link").click()


def closing_line(page: Page):
    return status(page).last


@pytest.mark.parametrize(
    ("tab", "button", "done"),
    [("Sample", "Generate", "5 pictures ·"), ("Interpolate", "Interpolate", "Interpolated ·")],
)
def test_a_picture_dropped_in_is_drawn_again_to_the_last_bit(
    context: BrowserContext,
    url: str,
    tmp_path: Path,
    tab: str,
    button: str,
    done: str,
):
    page = opened(context, url)
    open_tab(page, tab)
    fill(page, "Reverse steps", 3)
    fill(page, "Images" if tab == "Sample" else "Values of λ", 5)
    page.get_by_label("Seed", exact=False).filter(visible=True).last.fill("31")
    press(page, button)
    expect(closing_line(page)).to_contain_text(done, timeout=PATIENCE)
    first = downloaded(page, tmp_path / "first.png")
    page.close()

    again = opened(context, url)
    replay(again)
    again.locator(".replay input[type=file]").set_input_files(first)
    expect(closing_line(again)).to_contain_text(done, timeout=PATIENCE)
    assert downloaded(again, tmp_path / "again.png").read_bytes() == first.read_bytes()
    assert read_recipe(first)["run"]["num_images"] == 5


def test_a_copied_link_restores_its_tab_and_starts_nothing(
    context: BrowserContext,
    url: str,
    engine: Engine,
):
    page = opened(context, url)
    open_tab(page, "Stochastic x₀")
    fill(page, "Frozen at t", 321)
    fill(page, "Reverse steps", 17)
    press(page, "Copy link")
    expect(page.get_by_text("The link is copied")).to_be_visible(timeout=PATIENCE)
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(url)
    assert "tab=stochastic&" in link
    page.close()

    other = opened(context, link.replace("steps=17", "steps=18"))
    expect(other.get_by_label("number input for Reverse steps").filter(visible=True)).to_have_value("18")
    expect(other.get_by_label("number input for Frozen at t").filter(visible=True)).to_have_value("321")
    assert engine.active_runs == 0
    expect(status(other).first).to_contain_text("From the link: stochastic")


def test_a_link_opens_the_experiment_within_its_tab(context: BrowserContext, url: str):
    page = opened(context, f"{url}?tab=schedules&chosen=linear,sigmoid&seed=31")
    expect(page.get_by_text("From the link: schedules")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("tab", name="Linear and cosine")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label("sigmoid", exact=True).filter(visible=True)).to_be_checked()
    expect(page.get_by_label("cosine", exact=True).filter(visible=True)).not_to_be_checked()
    press(page, "Copy link")
    expect(page.get_by_text("The link is copied")).to_be_visible(timeout=PATIENCE)
    assert "tab=schedules&model=exact-shapes&chosen=linear%2Csigmoid&seed=31" in page.evaluate(
        "navigator.clipboard.readText()"
    )


def test_a_link_moves_the_picture_that_the_page_itself_draws(context: BrowserContext, url: str):
    page = opened(context, f"{url}?tab=forward&diffusion_steps=600&schedule=cosine")
    press(page, "Add noise")
    expect(page.locator(".noising output")).to_have_text("t = 600", timeout=PATIENCE)
    expect(page.get_by_role("combobox", name="Schedule")).to_have_value("cosine")
    page.get_by_role("slider", name="Diffusion steps t", exact=True).and_(
        page.locator(".noising input")
    ).press("Home")
    page.get_by_label("Seed of the noise").filter(visible=True).fill("8")
    expect(status(page).last).to_contain_text("t = 600")
    expect(page.locator(".noising output")).to_have_text("t = 0")


def test_a_link_with_training_settings_keeps_them_beside_its_preset(
    context: BrowserContext,
    url: str,
):
    page = opened(context, f"{url}?tab=train&num_steps=12&preset=Small, colour 32 × 32 (CPU, hours)")
    expect(page.get_by_label("Preset").filter(visible=True)).to_have_value(
        re.compile("Small"), timeout=PATIENCE
    )
    expect(page.get_by_label("Steps", exact=True).filter(visible=True)).to_have_value("12")
    expect(page.get_by_text("Made earlier by Quick")).to_be_visible(timeout=PATIENCE)


def test_a_bad_link_gets_its_sentences_as_words_alone(context: BrowserContext, url: str):
    page = opened(context, f"{url}?tab=sample&steps=<b id=evil>&model=owner/unknown&seed=12")
    line = closing_line(page)
    notice = page.locator(".status").filter(has_text="From the link")
    expect(notice).to_contain_text("num_inference_steps must be a number", timeout=PATIENCE)
    expect(notice).to_contain_text("owner/unknown")
    assert page.locator("#evil").count() == 0
    expect(page.get_by_label("number input for Reverse steps").filter(visible=True)).to_have_value("20")
    expect(line).to_be_visible()


def test_settings_pasted_are_replayed(context: BrowserContext, url: str, engine: Engine):
    page = opened(context, url)
    replay(page)
    words = '{"tab": "latent_grid", "model": "exact-shapes", "edge": 2, "num_inference_steps": 2, "seed": 5}'
    page.get_by_label("Or a link, or settings as JSON").fill(words)
    press(page, "Replay")
    expect(closing_line(page)).to_contain_text("4 pictures ·", timeout=PATIENCE)
    wait_until(lambda: engine.active_runs == 0)


def test_the_run_stands_as_code_and_nothing_of_it_is_a_barrier(
    context: BrowserContext,
    url: str,
):
    page = opened(context, url)
    replay(page)
    fill(page, "Reverse steps", 2)
    press(page, "Generate")
    expect(closing_line(page)).to_contain_text("16 pictures ·", timeout=PATIENCE)
    page.get_by_text("This run as code").filter(visible=True).click()
    code = page.locator(".cm-content").filter(visible=True)
    expect(code.first).to_contain_text("python -m ddpm_app sample --model exact-shapes")
    expect(code.nth(1)).to_contain_text("SampleRequest")
    expect(code.nth(2)).to_contain_text(re.compile('"tab": "sample"'))
    assert barriers(page) == []


def test_the_curtain_of_compare_is_drawn_by_keys(context: BrowserContext, url: str):
    page = opened(context, f"{url}?tab=compare&num_images=1&steps=2&other_num_inference_steps=1")
    expect(page.get_by_text("From the link: compare")).to_be_visible(timeout=PATIENCE)
    press(page, "Compare")
    expect(closing_line(page)).to_contain_text("twice ·", timeout=PATIENCE)
    curtain = page.get_by_label("How much of A is shown")
    curtain.press("Home")
    assert page.locator("img.a").evaluate("image => image.style.clipPath") == "inset(0px 100% 0px 0px)"
    assert page.locator("img.b").get_attribute("alt") == "B: steps 1"
    assert barriers(page) == []


@pytest.mark.usefixtures("slow")
def test_a_replay_into_a_tab_that_runs_is_refused_and_changes_nothing(context: BrowserContext, url: str):
    page = opened(context, url)
    fill(page, "Reverse steps", 1000)
    press(page, "Generate")
    expect(status(page)).to_contain_text("left", timeout=PATIENCE)
    replay(page)
    page.get_by_label("Or a link, or settings as JSON").fill("?tab=sample&num_images=4&steps=5")
    press(page, "Replay")
    expect(page.locator(".toast-wrap")).to_contain_text("a run goes on in the tab", timeout=PATIENCE)
    expect(page.get_by_label("number input for Reverse steps").filter(visible=True)).to_have_value("1000")
    press(page, "Stop")
    expect(page.get_by_text("Stopped")).to_be_visible(timeout=PATIENCE)
    press(page, "Replay")
    expect(closing_line(page)).to_contain_text("4 pictures ·", timeout=PATIENCE)
