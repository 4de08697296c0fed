"""The drawings on the pages, each from the analysis of a small network: python docs/making/pictures.py.

A weight is a grid, outputs downwards and inputs across. A stripe along a side has the colour of the group that each
row or column belongs to; what a sub-network of half the width drops is pale. tests/test_site.py draws them again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import torch
from torch import Tensor, nn

import netslim
from netslim.layouts.channels import channels

FOLDER = Path(__file__).parents[1] / "pictures"
COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#be123c")
FIXED, CELL, DROPPED, INK = "#9ca3af", "#334155", "#e5e7eb", "#111827"
UNIT = 14
"""Side of a cell in pixels."""


# --------------------------------------------------------------------------------------------- the networks


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Conv2d(8, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x).relu()).relu())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 1)
        self.conv1, self.conv2 = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.conv2(self.conv1(x).relu()))


class Concatenation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(10, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.left(x), self.right(x)], dim=1))


class Flatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 2 * 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.adaptive_avg_pool2d(self.conv(x), 2).flatten(1))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(self.first(x).relu()).relu())


# ------------------------------------------------------------------------------------------------- a weight


def colours(net: netslim.SlimNet, name: str, dim: int) -> list[str]:
    """The colour of the group that each index of a parameter's dimension belongs to."""
    found = [FIXED] * net.get_parameter(name).shape[dim]
    for group, stands in channels(net.plan.layouts[name][dim]):
        for index in (stands >= 0).nonzero().flatten().tolist():
            found[index] = COLOURS[group]
    return found


def rect(x: float, y: float, width: float, height: float, fill: str, more: str = "") -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}"{more}/>'


def text(x: float, y: float, said: str, size: int = 13, fill: str = INK, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">{escape(said)}</text>'


def stripe(x: float, y: float, found: Sequence[str], kept: set[int], across: bool) -> Iterator[str]:
    for i, colour in enumerate(found):
        pale = "" if i in kept else ' fill-opacity="0.25"'
        at = (x + i * UNIT, y) if across else (x, y + i * UNIT)
        yield rect(*at, *((UNIT - 1, 6) if across else (6, UNIT - 1)), colour, pale)


def weight(net: netslim.SlimNet, layer: str, kept: Mapping[str, Sequence[Tensor]], x: float, y: float) -> Iterator[str]:
    """The grid of a layer's weight, its stripes and its name; (x, y) is its upper left corner."""
    name = f"{layer}.weight"
    rows, columns = net.get_parameter(name).shape[:2]
    stay = [set(indices.tolist()) for indices in kept[name][:2]]
    yield from stripe(x - 10, y, colours(net, name, 0), stay[0], across=False)
    yield from stripe(x, y - 10, colours(net, name, 1), stay[1], across=True)
    for row in range(rows):
        for column in range(columns):
            fill = CELL if row in stay[0] and column in stay[1] else DROPPED
            yield rect(x + column * UNIT, y + row * UNIT, UNIT - 1, UNIT - 1, fill)
    yield text(x + columns * UNIT / 2, y - 18, layer)
    yield text(x + columns * UNIT / 2, y + rows * UNIT + 15, f"{rows} × {columns}", 11, "#6b7280")


def picture(model: nn.Module, parts: Sequence[str], side: int = 8) -> str:
    """Weights of layers at half width, from left to right; a part in brackets is what happens in between."""
    torch.manual_seed(0)
    net = netslim.convert(model, torch.zeros(1, 3, side, side))
    kept = net.kept(width=0.5)
    layers = [part for part in parts if not part.startswith("(")]
    middle = 40 + UNIT * max(len(net.get_parameter(f"{layer}.weight")) for layer in layers) / 2
    drawn, x = [], 26.0
    for part in parts:
        if part.startswith("("):
            drawn.append(text(x + 24, middle + 4, part.strip("()"), 14, "#6b7280"))
            x += 66
        else:
            rows, columns = net.get_parameter(f"{part}.weight").shape[:2]
            drawn += weight(net, part, kept, x, middle - rows * UNIT / 2)
            x += columns * UNIT + 22
    legend, height = x - 4, 2 * middle - 12
    drawn += [
        line
        for i, group in enumerate(net.groups)
        for line in (
            rect(16 + i * 150, height - 4, 10, 10, COLOURS[i]),
            text(31 + i * 150, height + 5, f"{group.name}: {group.size} channels", 11, anchor="start"),
        )
    ]
    return svg(max(legend, 16 + 150 * len(net.groups)), height + 18, drawn)


def svg(width: float, height: float, drawn: Sequence[str]) -> str:
    sides = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    ground = rect(0, 0, width, height, "#ffffff", ' rx="6"')
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {sides} font-family="sans-serif">', ground, *drawn, "</svg>\n"]
    )


# -------------------------------------------------------------------------------------- a network and its parts


def bars(net: netslim.SlimNet, width: float, without: str, x: float, y: float, scale: float) -> Iterator[str]:
    """The output channels of every convolution at a width, as bars around a line; a skipped block is an outline."""
    full, shapes = net.kept_shapes(1.0), net.kept_shapes(width)
    layers = [name for name, shape in full.items() if len(shape) == 4]
    yield rect(x, y - 0.5, len(layers) * 22 + 4, 1, FIXED)
    for i, name in enumerate(layers):
        most, least = (found[name][0] * scale for found in (full, shapes))
        if without and name.startswith(without) and "shortcut" not in name:
            outline = f' stroke="{FIXED}" stroke-dasharray="3 2"'
            yield rect(x + 6 + i * 22, y - most / 2, 14, most, "#ffffff", outline)
            continue
        yield rect(x + 6 + i * 22, y - most / 2, 14, most, DROPPED)
        yield rect(x + 6 + i * 22, y - least / 2, 14, least, COLOURS[0] if width == 1 and not without else COLOURS[1])


def step() -> str:
    """A step of GradAug: the full network of examples/mymodel.py learns labels, sub-networks learn its answer."""
    sys.path.insert(0, str(FOLDER.parents[1] / "examples"))
    from mymodel import DigitNet

    net = netslim.convert(DigitNet(), torch.zeros(1, 1, 32, 32), prove=False)
    block = net.blocks[-1].name
    rows = (
        (1.0, "", "the full network", "learns the labels", 26),
        (0.8, "", "width 0.8", "learns the full network's answer", 20),
        (0.5, "", "width 0.5", "learns the full network's answer", 16),
        (1.0, block, "a block left out", "learns the full network's answer", 22),
    )
    drawn, y = [], 50.0
    for width, without, name, learns, image in rows:
        drawn.append(rect(30 - image / 2, y - image / 2, image, image, "#fde68a", ' stroke="#b45309"'))
        drawn += [text(72, y - 3, name, 13, anchor="start"), text(72, y + 13, learns, 11, "#6b7280", "start")]
        drawn += bars(net, width, without, 270, y, 0.45)
        y += 76
    return svg(570, y - 26, drawn)


PICTURES = {
    "axes-chain.svg": lambda: picture(Chain(), ("first", "(ReLU)", "second", "(ReLU)", "third")),
    "axes-residual.svg": lambda: picture(Residual(), ("stem", "conv1", "(ReLU)", "conv2", "(+)", "head")),
    "axes-concat.svg": lambda: picture(Concatenation(), ("left", "right", "(cat)", "head")),
    "axes-flatten.svg": lambda: picture(Flatten(), ("conv", "(flatten)", "head")),
    "axes-grouped.svg": lambda: picture(Grouped(), ("first", "grouped", "head")),
    "step.svg": step,
}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw())
