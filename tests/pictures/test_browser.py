"""The page in a browser: pip install '.[browser]', and a Chromium on the machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import netslim
from netslim.pictures.page import write_page

from .nets import HOSTILE, Detector, Mapped, Small, converted

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install '.[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome is on the path"),
]
Open = Callable[[nn.Module | netslim.SlimNet], Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of a network offline. Whatever the browser complains of, or asks the network for, is a failure."""
    context = browser.new_context(viewport={"width": 1300, "height": 850}, offline=True)
    complaints: list[str] = []
    asked: list[str] = []

    def show_it(model: nn.Module | netslim.SlimNet) -> Any:
        write_page(model if isinstance(model, netslim.SlimNet) else converted(model), tmp_path / "page.html")
        opened = context.new_page()
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto((tmp_path / "page.html").as_uri())
        return opened

    yield show_it
    context.close()
    assert not complaints
    assert asked == [(tmp_path / "page.html").as_uri()]


def labels(page: Any) -> list[str]:
    found: list[str] = page.evaluate("netslimPage.cy.nodes('.step, .module').map((node) => node.data('label'))")
    return [label.replace("\n", " / ") for label in found]


def point_at(page: Any, label: str, clicks: int = 0) -> None:
    """Moves the mouse to the node with this label, and clicks."""
    x, y = page.evaluate(
        """(label) => {
            const { cy } = netslimPage, node = cy.nodes().filter((each) => each.data("label") === label)[0];
            cy.center(node);
            const box = node.renderedBoundingBox(), area = cy.container().getBoundingClientRect();
            if (node.isParent()) return [area.left + box.x1 + 20, area.top + box.y1 + 9]; // its name
            return [area.left + (box.x1 + box.x2) / 2, area.top + (box.y1 + box.y2) / 2];
        }""",
        label,
    )
    page.mouse.move(0, 0)
    page.mouse.move(x, y)
    if clicks:
        page.mouse.click(x, y, click_count=clicks)


def slide(page: Any, stop: int) -> None:
    page.focus("#width")
    page.keyboard.press("Home")
    for _ in range(stop):
        page.keyboard.press("ArrowRight")


def test_the_network_is_drawn_from_top_to_bottom(show: Open) -> None:
    page = show(Small())
    assert "stem / Conv2d · 8" in labels(page)
    heights = page.evaluate(
        "netslimPage.cy.edges('.reads').map((e) => e.target().position('y') - e.source().position('y'))"
    )
    assert heights
    assert min(heights) > 0
    assert page.evaluate("netslimPage.cy.nodes('.block').length") >= 8
    assert "4 channel groups, 3 skippable blocks, 1 reason for" in page.inner_text("#panel")


def test_pointing_at_a_step_shows_what_is_known_of_it(show: Open) -> None:
    page = show(Small())
    assert page.is_hidden("#tip")
    point_at(page, "first\nConv2d · 6")
    page.wait_for_selector("#tip", state="visible")
    told = page.inner_text("#tip")
    assert "blocks.0.first" in told
    assert "nets.py:" in told
    assert "2 × 6 × 12 × 12" in told
    assert "6 × 8 × 3 × 3" in told
    assert "group blocks.0.first, tied to" in told
    assert "conv2d, nets.py:23 → " in told
    assert "block blocks.0" in told
    point_at(page, "head\nLinear")
    page.wait_for_function("document.getElementById('tip').innerText.includes('model output')")


def test_search_unfolds_and_shows_what_it_finds(show: Open) -> None:
    page = show(Small())
    for _ in range(2):
        page.click("#fold")
    assert not any("Conv2d · 6" in label for label in labels(page))
    page.fill("#search", "1.second.bi")
    assert page.inner_text("#results li.first").startswith("blocks.1.second.bias")
    page.press("#search", "Enter")
    assert any("second / Conv2d" in label for label in labels(page))
    assert page.inner_text("#panel h2") == "blocks.1.second"
    assert page.evaluate("netslimPage.cy.$('.chosen').length") == 1
    page.fill("#search", "nowhere")
    assert page.inner_text("#results") == "nothing has this name"


def test_the_slider_says_what_is_kept_and_what_it_costs(show: Open) -> None:
    net = converted(Small())
    page = show(net)
    full = page.inner_text("#cost")
    slide(page, 4)
    half = netslim.cost.count(net, 0.5)
    assert page.inner_text("#ratio") == "0.5"
    assert page.inner_text("#cost").startswith(f"{half.params:,} parameters (")
    assert f"{half.flops:,} FLOPs" in page.inner_text("#cost")
    assert page.inner_text("#cost") != full
    assert "stem / Conv2d · 4 of 8" in labels(page)
    assert "cat / 6 of 13" in labels(page)  # 5 channels at a half are 2


def test_modules_fold_and_unfold(show: Open) -> None:
    page = show(Small())
    before = labels(page)
    point_at(page, "▾ 0", clicks=2)
    assert "▸ 0 / 4 steps" in labels(page)
    assert len(labels(page)) == len(before) - 3
    point_at(page, "▸ 0\n4 steps", clicks=2)
    assert sorted(labels(page)) == sorted(before)


def test_lists_show_groups_blocks_and_what_is_frozen(show: Open) -> None:
    page = show(Small())
    page.click("#tabs button:has-text('blocks')")
    page.click("#panel .row >> nth=1")
    bright = "netslimPage.cy.nodes('.step').filter((node) => !node.hasClass('dim')).map((node) => node.data('label'))"
    assert sorted(label.split("\n")[0] for label in page.evaluate(bright)) == ["add", "first", "relu", "second"]
    page.click("#tabs button:has-text('frozen')")
    assert "model output" in page.inner_text("#panel")
    page.click("#tabs button:has-text('groups')")
    page.click("#panel .row:has-text('side')")
    assert "side.weight" in page.inner_text("#panel")


def test_a_network_in_parts_shows_who_stays_python(show: Open) -> None:
    page = show(Detector())
    assert {"Detector / stays Python", "Heads / stays Python"} <= set(labels(page))
    assert "Followed in parts" in page.inner_text("#panel")


def test_a_name_is_never_run(show: Open) -> None:
    image = "<img src=x onerror=alert(1)>"
    page = show(Mapped(HOSTILE, image, "constructor", "__proto__"))
    assert len(labels(page)) == 11
    page.fill("#search", "onerror")
    page.press("#search", "Enter")
    assert page.inner_text("#panel h2") == f"all.{image}"
    assert page.evaluate("document.images.length") == 0


def torchvision_net(name: str) -> netslim.SlimNet:
    if name.startswith("maskrcnn"):
        model = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None, min_size=96)
        return netslim.convert(model, ([torch.rand(3, 96, 96)],), prove=False)
    return netslim.convert(getattr(torchvision.models, name)(), torch.randn(2, 3, 224, 224), prove=False)


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["resnet50", "densenet121", "vit_b_16", "maskrcnn_resnet50_fpn"])
def test_real_networks_open_folded_and_unfold(name: str, show: Open, tmp_path: Path) -> None:
    page = show(torchvision_net(name))
    assert (tmp_path / "page.html").stat().st_size < 3_000_000
    first = labels(page)
    assert 10 <= len(first) <= 60
    page.click("#unfold")
    assert len(labels(page)) > len(first)
    slide(page, 4)
    assert page.inner_text("#ratio") == "0.5"
