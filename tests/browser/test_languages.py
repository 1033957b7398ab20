"""What a Korean and a Chinese visitor see, in headless Chromium."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.steps import PATIENCE, fill, open_tab, press, status

pytestmark = pytest.mark.browser
SEEN = {
    "ko-KR": {
        "title": "직접 해 보는 DDPM 논문",
        "about": "모든 그림은 순수한 노이즈에서 출발하고",
        "images": "이미지 수",
        "steps": "역과정 스텝 수",
        "generate": "생성",
        "done": "그림 16장",
        "forward": "순방향 과정",
        "schedule": "linear (선형)",
        "play": "재생",
        "plot": "더해지는 분산 β",
        "refused": "범위의 정수여야 합니다",
    },
    "zh-TW": {
        "title": "可交互的 DDPM 论文",
        "about": "每张图片都从纯噪声开始",
        "images": "图片数量",
        "steps": "反向步数",
        "generate": "生成",
        "done": "16 张图片",
        "forward": "前向过程",
        "schedule": "linear（线性）",
        "play": "播放",
        "plot": "加入的方差 β",
        "refused": "之内的整数",
    },
}


@pytest.mark.parametrize("locale", SEEN)
def test_the_page_speaks_the_browsers_language(browser: Browser, url: str, locale: str):
    seen = SEEN[locale]
    context = browser.new_context(locale=locale, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(url)
    expect(page.get_by_text("T = 1000")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("heading", name=seen["title"])).to_be_visible()
    expect(page.get_by_text(seen["about"])).to_be_visible()
    expect(page.get_by_label(f"number input for {seen['images']}").filter(visible=True)).to_be_visible()
    fill(page, seen["steps"], 2)
    press(page, seen["generate"])
    expect(status(page)).to_contain_text(seen["done"], timeout=PATIENCE)
    seed = (
        page.get_by_label("시드" if locale == "ko-KR" else "随机种子", exact=True).filter(visible=True).first
    )
    seed.fill("0.5")
    seed.blur()
    press(page, seen["generate"])
    expect(page.get_by_test_id("toast-text")).to_contain_text(seen["refused"], timeout=PATIENCE)
    expect(status(page)).to_contain_text(seen["refused"])  # where it stays
    open_tab(page, seen["forward"])
    expect(
        page.locator(f"input[value='{seen['schedule']}']").or_(page.get_by_text(seen["plot"])).first
    ).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("button", name=seen["play"], exact=True)).to_be_visible(timeout=PATIENCE)
    assert "__i18n__" not in page.content().split("</script>")[-1]
    context.close()
