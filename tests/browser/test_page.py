"""A visitor's walk through the real page, in headless Chromium."""

import re
from pathlib import Path

import pytest
import torch
from gradio_client import Client
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from ddpm_app.engine import Engine, ForwardRequest
from ddpm_app.ui import build_app, launch_options
from tests.browser.steps import PATIENCE, fill, open_tab, press, sheet_source, status
from tests.ui.conftest import MODEL
from tests.waiting import wait_until

pytestmark = pytest.mark.browser
TABS = (
    "Sample",
    "Progressive",
    "Stochastic x₀",
    "Interpolate",
    "Branches",
    "Forward",
    "Likelihood",
    "Compression",
    "DDIM",
    "Improved DDPM",
    "Figures",
)


@pytest.mark.usefixtures("slow")
def test_generating_shows_changing_previews_and_then_the_gallery(page: Page):
    fill(page, "Reverse steps", 100)
    press(page, "Generate")
    expect(status(page)).to_contain_text("left", timeout=PATIENCE)
    seen = {sheet_source(page)}
    page.wait_for_function("seen => !seen.includes(document.querySelector('.sheet img').src)", arg=list(seen))
    seen.add(sheet_source(page))
    assert len(seen) == 2
    expect(status(page)).to_contain_text("16 pictures ·", timeout=PATIENCE)
    expect(page.locator(".picks img").filter(visible=True)).to_have_count(16)


@pytest.mark.usefixtures("slow")
def test_stop_ends_the_run_and_says_so(page: Page, engine: Engine):
    fill(page, "Reverse steps", 1000)
    fill(page, "Images", 64)
    press(page, "Generate")
    expect(status(page)).to_contain_text("left", timeout=PATIENCE)
    press(page, "Stop")
    expect(status(page)).to_contain_text("Stopped after step", timeout=PATIENCE)
    wait_until(lambda: engine.active_runs == 0)
    page.wait_for_timeout(500)
    expect(status(page)).to_contain_text("Stopped after step")  # nothing of the run came after it


@pytest.mark.usefixtures("slow")
def test_closing_the_page_frees_the_device(browser: Browser, url: str, engine: Engine):
    page = browser.new_page()
    page.goto(url)
    expect(page.get_by_text("T = 1000")).to_be_visible(timeout=PATIENCE)
    fill(page, "Reverse steps", 1000)
    fill(page, "Images", 64)
    press(page, "Generate")
    expect(status(page)).to_contain_text("left", timeout=PATIENCE)
    page.close(run_before_unload=False)
    wait_until(lambda: engine.active_runs == 0)


def test_every_tab_does_its_work_at_the_press_of_its_button(page: Page):
    work = {
        "Sample": ("Generate", "pictures ·"),
        "Progressive": ("Generate", "frames kept ·"),
        "Stochastic x₀": ("Continue", "continuations of one x_t at t = 750 ·"),
        "Interpolate": ("Interpolate", "Interpolated ·"),
        "Branches": ("New trunk", "A trunk to fork ·"),
        "Forward": ("Add noise", "SNR"),
        "Likelihood": ("Measure", "bits/dim ·"),
        "Compression": ("Compress", "more leave none ·"),
        "DDIM": ("Compare steps", "24 pictures ·"),
        "Improved DDPM": ("Measure v", "learned no variance"),
        "Figures": ("Draw", "Figure 6 ·"),
    }
    assert tuple(work) == TABS
    for tab, (button, said) in work.items():
        open_tab(page, tab)
        if tab == "Figures":
            page.get_by_label("100, for a first look").check()
        press(page, button)
        expect(status(page)).to_contain_text(said, timeout=PATIENCE)


def test_an_uploaded_picture_is_noised(page: Page, tmp_path: Path):
    Image.new("CMYK", (70, 40), (0, 200, 200, 0)).save(tmp_path / "red.jpg")
    open_tab(page, "Forward")
    page.locator("input[type=file]").filter(visible=False).last.wait_for(state="attached")
    chooser = page.get_by_role("tabpanel").filter(visible=True).locator("input[type=file]").first
    chooser.set_input_files(tmp_path / "red.jpg")
    expect(page.locator(".picture img").filter(visible=True)).to_be_visible(timeout=PATIENCE)
    press(page, "Add noise")
    expect(status(page)).to_contain_text("SNR", timeout=PATIENCE)


def pixels(page: Page, canvas: str) -> list[int]:
    return page.locator(canvas).evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )


def test_dragging_t_mixes_picture_and_noise_within_the_page(page: Page, tmp_path: Path, engine: Engine):
    Image.new("RGB", (8, 8), (250, 20, 90)).save(tmp_path / "pink.png")
    open_tab(page, "Forward")
    chooser = page.get_by_role("tabpanel").filter(visible=True).locator("input[type=file]").first
    chooser.set_input_files(tmp_path / "pink.png")
    expect(page.locator(".noising .signal")).to_have_text("× 0.724", timeout=PATIENCE)
    time = page.get_by_role("slider", name="Diffusion steps t", exact=True).and_(
        page.locator(".noising input")
    )
    time.press("Home")
    assert pixels(page, "canvas.xt") == pixels(page, "canvas.x0")
    assert pixels(page, "canvas.x0")[:4] == [250, 20, 90, 255]
    time.press("End")
    picture = torch.tensor([250, 20, 90], dtype=torch.uint8)[:, None, None].expand(3, 32, 32)
    request = ForwardRequest(picture=picture, diffusion_steps=(1000,), seed=7)
    expected = engine.forward(request)[0].permute(1, 2, 0).reshape(-1, 3)
    shown = torch.tensor(pixels(page, "canvas.xt")).reshape(-1, 4)[:, :3]
    assert (shown - expected.int()).abs().max() <= 1


def test_a_wrong_model_is_told_in_a_sentence_and_the_page_goes_on(page: Page):
    model = page.get_by_label("Model").first
    model.fill("no-such-model")
    model.press("Enter")
    expect(page.get_by_text("This model cannot be used")).to_be_visible(timeout=PATIENCE)
    model.fill("tiny-8")
    model.press("Enter")
    expect(page.get_by_text("8 × 8 RGB")).to_be_visible(timeout=PATIENCE)


@pytest.mark.usefixtures("slow")
def test_stop_takes_a_waiting_run_out_of_the_queue(browser: Browser, engine: Engine):
    demo = build_app(engine, MODEL).queue(api_open=False, default_concurrency_limit=1)
    demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    client = Client(demo.local_url, verbose=False)
    job = client.submit(model=MODEL, num_inference_steps=1000, num_images=64, api_name="/sample")
    wait_until(lambda: engine.active_runs == 1)
    page = browser.new_page()
    page.goto(demo.local_url)
    expect(page.get_by_text("T = 1000")).to_be_visible(timeout=PATIENCE)
    fill(page, "Reverse steps", 1000)
    with page.expect_response(re.compile("queue/join")):
        press(page, "Generate")
    with page.expect_response(re.compile("/cancel")):
        press(page, "Stop")
    expect(status(page)).to_contain_text("Nothing runs or waits", timeout=PATIENCE)
    job.cancel()
    wait_until(lambda: engine.active_runs == 0)
    page.wait_for_timeout(500)
    assert engine.active_runs == 0
    fill(page, "Reverse steps", 2)
    press(page, "Generate")
    expect(status(page)).to_contain_text("visited t = 1000, 500", timeout=PATIENCE)
    page.close()
    client.close()
    demo.close()


def test_dragging_t_without_a_picture_runs_nothing_until_the_button_is_pressed(page: Page):
    open_tab(page, "Forward")
    fill(page, "Diffusion steps t", 400)
    expect(status(page)).to_contain_text("There is no picture yet", timeout=PATIENCE)
    press(page, "Add noise")
    expect(status(page)).to_contain_text("t = 400", timeout=PATIENCE)
    assert page.locator(".picture img").filter(visible=True).count() == 0
    fill(page, "Diffusion steps t", 600)
    expect(status(page)).to_contain_text("t = 600", timeout=PATIENCE)
    seed = page.get_by_label("Seed of the noise").filter(visible=True)
    seed.fill("")
    page.wait_for_timeout(500)
    seed.fill("8")
    model = page.get_by_label("Model").first
    model.fill("tiny-8")
    model.press("Enter")
    expect(status(page)).to_contain_text("There is no picture yet", timeout=PATIENCE)  # but another's
    assert set(pixels(page, "canvas.xt")) == {0}
    assert page.locator(".toast-wrap .error").count() == 0


def test_a_refused_run_says_why_where_it_would_have_told_of_its_steps(page: Page):
    seed = page.get_by_label("Seed").filter(visible=True)
    seed.fill("")
    press(page, "Generate")
    expect(status(page)).to_contain_text("seed must be a whole number", timeout=PATIENCE)
    seed.fill("3")
    fill(page, "Reverse steps", 2)
    press(page, "Generate")
    expect(status(page)).to_contain_text("16 pictures ·", timeout=PATIENCE)


def test_the_settings_of_ddim_and_its_sameness_are_told_where_they_hold(page: Page):
    open_tab(page, "Stochastic x₀")
    page.get_by_text("Finer settings").filter(visible=True).click()
    kept = page.get_by_label("ε follows the clipped x̂₀").filter(visible=True)
    same = page.locator(".prose").get_by_text("DDIM with eta = 0 draws no noise").filter(visible=True)
    expect(kept).to_have_count(0)
    page.get_by_label("Sampler").filter(visible=True).click()
    page.get_by_role("option", name="DDIM", exact=True).click()
    expect(kept).to_have_count(1, timeout=PATIENCE)
    expect(same).to_have_count(0)
    fill(page, "eta", 0)
    expect(same).to_have_count(1, timeout=PATIENCE)


@pytest.mark.parametrize("width", [390, 1280])
def test_no_tab_scrolls_sideways(browser: Browser, url: str, width: int):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(url)
    expect(page.get_by_text("T = 1000")).to_be_visible(timeout=PATIENCE)
    for tab in TABS:
        shown = page.get_by_role("tab", name=tab).filter(visible=True)
        if shown.count() and shown.first.bounding_box()["x"] < width - 40:
            shown.first.click()
        else:
            page.get_by_label("More tabs").first.click()  # the page's own, not an experiment's
            page.locator(".overflow-dropdown button").filter(has_text=tab).click()
        expect(page.locator(".about").filter(visible=True).first).to_be_visible(timeout=PATIENCE)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    first = "Settings" if width == 390 else "Use via API"  # and no dot before it
    assert page.locator("footer").inner_text().strip().startswith(first)
    page.close()


def test_the_score_field_draws_itself_and_follows_t(page: Page):
    page.emulate_media(reduced_motion="reduce")  # else it plays at once
    open_tab(page, "Score")
    t = page.locator(".plane output")
    expect(t).to_contain_text("√ᾱ", timeout=PATIENCE)
    play, through = page.locator(".plane-play"), page.get_by_role("slider", name="From noise to data")
    pictures = []
    for key, said in (("Home", "t = 1000"), ("End", "t = 0")):
        through.press(key)
        expect(t).to_contain_text(said)
        pictures.append(page.locator(".plane canvas").screenshot())
    assert pictures[0] != pictures[1]
    page.get_by_label("data", exact=True).check()
    assert page.locator(".plane canvas").screenshot() != pictures[1]
    play.click()
    expect(play).to_have_attribute("aria-label", "Pause")
