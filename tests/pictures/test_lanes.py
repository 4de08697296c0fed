"""Groups as lanes: where they are, and that their names can be read."""

from __future__ import annotations

import itertools

import pytest
import torch
import torchvision
from torch import nn

import netslim
from netslim.net.runtime import runtime
from netslim.pictures.lanes import Lane, Lanes, draw_lanes, lanes

from .nets import Detector, Small, converted

pytest.importorskip("matplotlib")


def texts(found: Lanes) -> list[str]:
    """The names in the picture, after a look at whether one lies on another, or outside."""
    figure = draw_lanes(found, "net")
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    (axes,) = figure.axes
    everything = [*axes.texts, *axes.get_xticklabels(), axes.xaxis.label, *figure.texts, *figure.legends[0].get_texts()]
    shown = [text for text in everything if text.get_text() and text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in shown]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b), f"{one!r} lies on {other!r}"
    for name, box in boxes:
        assert box.x0 >= 0, name
        assert box.x1 <= figure.bbox.width, name
        assert box.y0 >= 0, name
        assert box.y1 <= figure.bbox.height, name
    return [text.get_text() for text in axes.texts]


def found(model: nn.Module, size: int = 64) -> Lanes:
    net = netslim.convert(model, torch.randn(2, 3, size, size), prove=False)
    return lanes(runtime(net).plan)


@pytest.mark.parametrize(("name", "count"), [("resnet18", 12), ("densenet121", 120), ("vit_b_16", 25)])
def test_every_name_of_a_real_network_can_be_read(name: str, count: int) -> None:
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    made = found(model, 224 if "vit" in name else 64)
    assert len(texts(made)) == len(made.lanes) == count


def test_where_there_are_too_many_lanes_some_names_are_left_out() -> None:
    made = tuple(Lane(f"layer{i}", 8, (i,), (i + 1,)) for i in range(600))
    assert 50 < len(texts(Lanes(made, (), 600))) < 600


def test_a_name_too_long_for_its_place_loses_its_outer_modules() -> None:
    long = ".".join(["module" * 3] * 12)
    names = texts(Lanes((Lane(long, 8, (0,), (1,)), Lane("short", 8, (1,), (2,))), (), 2))
    assert names[1] == "short · 8"
    assert names[0].startswith("…")
    assert names[0].endswith("module · 8")


def test_nothing_to_draw_is_a_picture_too() -> None:
    assert texts(Lanes((), (), 0)) == []


def test_lanes_begin_where_their_layers_are() -> None:
    made = lanes(runtime(converted(Small())).plan)
    assert [lane.name for lane in made.lanes] == ["stem", "blocks.0.first", "blocks.1.first", "side"]
    stem, first, second, side = made.lanes
    assert stem.gives == (0, 2, 4)
    assert stem.reads == (1, 3, 5, 6)
    assert (first.gives, first.reads) == ((1,), (2,))
    assert (second.gives, second.reads) == ((3,), (4,))
    assert (side.gives, side.reads) == ((5,), (6,))
    assert (1, 1, 0) in made.meetings  # the first layer of the first block reads the stem's group
    assert made.depth == 6


def test_branches_beside_each_other_have_one_depth() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1), nn.Conv2d(9, 6, 1)
            self.d = nn.Conv2d(6, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.d(self.c(torch.cat([self.a(x), self.b(x)], 1)))

    assert [(lane.name, lane.first, lane.last) for lane in found(Branches(), 8).lanes] == [
        ("a", 0, 1), ("b", 0, 1), ("c", 1, 2),
    ]  # fmt: skip


def test_parts_of_a_network_follow_each_other() -> None:
    made = lanes(runtime(converted(Detector())).plan)
    ends = {lane.name: (lane.first, lane.last) for lane in made.lanes}
    assert ends["heads.score.0"][0] > ends["backbone.0"][1]
