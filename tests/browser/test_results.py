"""What a visitor does with what a run has made: walks through it, and hands it on."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steps import PATIENCE, fill, open_tab, press, sheet_source, status

pytestmark = pytest.mark.browser


def test_dragging_through_a_film_changes_the_frame_and_its_timestep(page: Page):
    open_tab(page, "Progressive")
    press(page, "Generate")
    expect(status(page)).to_contain_text("frames kept ·", timeout=PATIENCE)
    before = sheet_source(page)
    page.get_by_role("slider", name=re.compile("Drag through")).press("Home")
    expect(page.get_by_text("after the step at t = 1000").first).to_be_visible(timeout=PATIENCE)
    assert sheet_source(page) != before


def test_what_an_earlier_run_left_pales_until_the_next_one_reaches_it(page: Page):
    open_tab(page, "Progressive")
    strip = page.locator(".late.sheet").filter(visible=True).first
    fill(page, "Reverse steps", 4)
    press(page, "Generate")
    expect(status(page)).to_contain_text("frames kept ·", timeout=PATIENCE)
    expect(strip).to_have_css("opacity", "1")
    fill(page, "Reverse steps", 1000)
    press(page, "Generate")
    expect(strip).to_have_css("opacity", "0.7", timeout=PATIENCE)
    expect(status(page)).to_contain_text("frames kept ·", timeout=PATIENCE)
    expect(strip).to_have_css("opacity", "1", timeout=PATIENCE)


def test_dragging_back_shows_what_fewer_bits_brought(page: Page):
    open_tab(page, "Compression")
    press(page, "Compress")
    expect(status(page)).to_contain_text("more leave none ·", timeout=PATIENCE)
    before = sheet_source(page)
    page.get_by_role("slider", name=re.compile("Bits received")).press("Home")
    expect(page.get_by_text("x_t at t = 1000").first).to_be_visible(timeout=PATIENCE)
    assert sheet_source(page) != before


def test_a_picked_picture_is_sent_to_another_tab(page: Page):
    fill(page, "Reverse steps", 2)
    press(page, "Generate")
    expect(status(page)).to_contain_text("16 pictures ·", timeout=PATIENCE)
    page.get_by_role("tabpanel").filter(visible=True).get_by_role("button", name="Likelihood").click()
    expect(page.get_by_role("button", name="Measure")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".picture img").filter(visible=True)).to_be_visible(timeout=PATIENCE)


def test_a_picture_to_encode_is_sent_under_its_own_experiment(page: Page):
    fill(page, "Reverse steps", 2)
    press(page, "Generate")
    expect(status(page)).to_contain_text("16 pictures ·", timeout=PATIENCE)
    press(page, "Reconstruct")
    expect(page.get_by_role("button", name="Encode", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".picture img").filter(visible=True)).to_be_visible(timeout=PATIENCE)


def test_a_picture_that_is_not_there_yet_is_not_sent_and_the_page_says_so(page: Page):
    press(page, "Forward")
    expect(page.get_by_text("There is nothing to send yet")).to_be_visible(timeout=PATIENCE)


def test_a_plot_draws_a_line_for_every_picture_of_the_newest_run(page: Page):
    open_tab(page, "Progressive")
    legend = page.locator(".role-legend-symbol path").filter(visible=True)
    for num_images in (3, 5):
        fill(page, "Images", num_images)
        fill(page, "Reverse steps", 4)
        press(page, "Generate")
        expect(status(page)).to_contain_text(f"{num_images} pictures", timeout=PATIENCE)
        expect(legend).to_have_count(num_images, timeout=PATIENCE)


def test_a_film_hands_its_final_pictures_on(page: Page):
    open_tab(page, "Progressive")
    fill(page, "Reverse steps", 4)
    press(page, "Generate")
    expect(page.locator(".picks img").filter(visible=True)).to_have_count(4, timeout=PATIENCE)
    page.get_by_role("tabpanel").filter(visible=True).get_by_role("button", name="Likelihood").click()
    expect(page.locator(".picture img").filter(visible=True)).to_be_visible(timeout=PATIENCE)
