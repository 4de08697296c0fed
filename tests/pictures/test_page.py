"""The page holds all that it needs, and no name in it is more than a name."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from netslim import SlimNet
from netslim.errors import ArchiveError
from netslim.pictures.drawing import drawing
from netslim.pictures.page import page, write_page

from .nets import HOSTILE, Mapped, Small, converted

MOST = 3_000_000


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def data(text: str) -> Any:
    (found,) = re.findall(r'(?s)<script type="application/json" id="scene">(.*?)</script>', text)
    return json.loads(found)


@pytest.fixture(scope="module")
def net() -> SlimNet:
    return converted(Small())


@pytest.fixture(scope="module")
def text(net: SlimNet) -> str:
    return page(drawing(net, "small"))


def test_the_page_has_every_module_group_and_width(text: str, net: SlimNet) -> None:
    found = data(text)
    assert [each["name"] for each in found["groups"]] == [group.name for group in net.groups]
    assert {each["target"] for each in found["steps"] if each["kind"] == "layer"} >= {"stem", "blocks.1.second", "head"}
    assert set(found["modules"]) == {"blocks", "blocks.0", "blocks.1"}
    assert [stop["width"] for stop in found["stops"]] == [i / 10 for i in range(1, 11)]
    shapes = [found["layouts"][each["dims"]] for each in found["tensors"].values()]
    assert [{"group": 0}, 1, 3, 3] in shapes


def test_the_page_needs_nothing_else(text: str) -> None:
    assert len(text.encode()) < MOST
    for tag, attributes in Tags(text).found:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert not attributes.keys() & {"src", "href", "srcset", "action", "data"}
    (policy,) = [a["content"] for _, a in Tags(text).found if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policy)
    assert not re.search(r"@import|url\(\s*['\"]?https?:|sourceMappingURL", text)
    assert "{{" not in re.sub(r"(?s)<script.*?</script>", "", text)


def test_the_page_hands_on_the_licences_of_what_it_holds(text: str) -> None:
    for holder in ("The Cytoscape Consortium", "Chris Pettitt"):
        assert holder in text
    assert text.count("Permission is hereby granted") >= 2


def test_names_are_only_names() -> None:
    names = (HOSTILE, "<!--", "a&amp;b", "{{scene}}", "\u2028", '"', "\ud800")
    text = page(drawing(converted(Mapped(*names)), HOSTILE))
    assert [tag for tag, _ in Tags(text).found].count("script") == 5
    assert "alert(1)</" not in text
    found = data(text)
    assert [each["target"].partition(".")[2] for each in found["steps"] if each["kind"] == "layer"] == list(names)
    assert found["title"] == HOSTILE
    text.encode()


def test_a_page_is_written_whole_or_not_at_all(net: SlimNet, tmp_path: Path) -> None:
    stages: list[str] = []
    write_page(net, tmp_path / "page.html", progress=lambda stage, _done: stages.append(stage))
    assert data((tmp_path / "page.html").read_text())["title"] == "Small"
    assert list(dict.fromkeys(stages)) == ["draw", "count"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError):
        write_page(net, tmp_path / "file" / "page.html")
