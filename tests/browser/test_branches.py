"""A walk through the tree of branches in the real page, by mouse and by keyboard."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steps import PATIENCE, fill, open_tab, press, status
from tests.doubles import save_pipeline, tiny_network

pytestmark = pytest.mark.browser


def colours(page: Page, canvas: str) -> int:
    """How many a canvas shows; 1 while it is blank."""
    return page.locator(canvas).evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height)"
        ".data.buffer)).size"
    )


def test_the_tree_made_earlier_is_walked_by_keyboard_and_shows_its_pictures(page: Page):
    open_tab(page, "Branches")
    rows = page.locator(".branching-row")
    expect(rows).to_have_count(3, timeout=PATIENCE)
    expect(page.locator(".branching-told")).to_contain_text("t = 550 (trunk", timeout=PATIENCE)
    rows.nth(0).focus()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".branching-path button")).to_have_count(2)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".branching-time output")).to_have_text("t = 400")
    page.wait_for_function("document.querySelectorAll('.branching canvas').length > 3")
    assert colours(page, "canvas.guess") > 20
    page.locator(".branching-path button").first.click()  # back up
    expect(rows.nth(0)).to_have_attribute("aria-pressed", "true")


def test_a_tree_grows_where_it_is_forked(page: Page):
    open_tab(page, "Branches")
    fill(page, "Reverse steps", 10)
    press(page, "New trunk")
    expect(status(page)).to_contain_text("A trunk to fork", timeout=PATIENCE)
    rows = page.locator(".branching-row")
    expect(rows).to_have_count(1)
    page.get_by_role("slider", name="t along the path").press("Home")
    fill(page, "Branches", 2)
    press(page, "Fork here")
    expect(status(page)).to_contain_text(re.compile("2 branches from t = .* of the trunk"), timeout=PATIENCE)
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_have_attribute("aria-label", re.compile("seed 200 from t = "))
    rows.nth(2).click(position={"x": 5, "y": 30})
    page.get_by_role("slider", name="t along the path").press("End")
    expect(page.locator(".branching-told")).to_contain_text("nothing is left to draw")


@pytest.mark.usefixtures("slow")
def test_a_trunk_that_is_stopped_gives_the_tree_back_that_stood_there(page: Page):
    open_tab(page, "Branches")
    rows = page.locator(".branching-row")
    expect(rows).to_have_count(3, timeout=PATIENCE)
    fill(page, "Reverse steps", 1000)
    page.get_by_role("button", name="The whole tree again").click()
    branches = page.get_by_label("Branches to grow with a new trunk")
    branches.fill(" ".join(f"900:{seed}" for seed in range(24)))  # minutes of work
    branches.blur()
    press(page, "New trunk")
    expect(page.locator(".branching-told")).not_to_contain_text("t = 550", timeout=PATIENCE)
    stop = page.get_by_role("button", name="Stop", exact=True).filter(visible=True).first
    stop.click(timeout=PATIENCE)  # the page is busy drawing
    expect(status(page)).to_contain_text("Stopped", timeout=PATIENCE)
    expect(rows).to_have_count(3, timeout=PATIENCE)


def test_a_wide_picture_keeps_its_shape(page: Page, tmp_path):
    folder = save_pipeline(tmp_path / "wide", tiny_network(sample_size=[8, 16]))
    model = page.get_by_label("Model").first
    model.fill(str(folder))
    model.press("Enter")
    open_tab(page, "Branches")
    fill(page, "Reverse steps", 4)
    press(page, "New trunk")
    expect(status(page)).to_contain_text("A trunk to fork", timeout=PATIENCE)
    inked = """() => {
        const canvas = document.querySelector("canvas.guess"), pen = canvas.getContext("2d");
        const alpha = (x, y) => pen.getImageData(x * canvas.width, y * canvas.height, 1, 1).data[3];
        return [alpha(.5, .5), alpha(.05, .5), alpha(.5, .2), alpha(.5, .8)].map(Boolean).join();
    }"""
    page.wait_for_function(f"({inked})() === 'true,true,false,false'", timeout=PATIENCE)
