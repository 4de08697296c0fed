"""The channel groups of a network as lanes, over the depth at which they occur."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netslim.errors import InputError
from netslim.extras import needed
from netslim.files import atomic_write
from netslim.ir.plan import Plan, groups_in
from netslim.ir.program import Program
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox, BboxBase


@dataclass(frozen=True, slots=True)
class Lane:
    """A group, and the depths at which parameters have it: as what they give (dimension 0), or as what they read."""

    name: str
    size: int
    gives: tuple[int, ...]
    reads: tuple[int, ...]

    @property
    def first(self) -> int:
        return min((*self.gives, *self.reads))

    @property
    def last(self) -> int:
        return max((*self.gives, *self.reads))


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lanes, in the order in which they begin; meetings: (depth, lane, lane) where two occur in one parameter."""

    lanes: tuple[Lane, ...]
    meetings: tuple[tuple[int, int, int], ...]
    depth: int


# ------------------------------------------------------------------------------------------------- what is drawn


def lanes(plan: Plan) -> Lanes:
    """Where each group occurs. A depth is the number of layers on the longest way there; parts follow each other."""
    depths = _depths(plan)
    gives: dict[int, set[int]] = {g: set() for g in range(len(plan.groups))}
    reads: dict[int, set[int]] = {g: set() for g in range(len(plan.groups))}
    meetings: dict[tuple[int, int, int], None] = {}
    for name, dims in plan.layouts.items():
        depth = depths[name]
        for dim, layout in enumerate(dims):
            for group in groups_in(layout):
                (reads if dim else gives)[group].add(depth)
        first = groups_in(dims[0]) if dims else []
        for other in (group for layout in dims[1:] for group in groups_in(layout)):
            meetings |= dict.fromkeys((depth, group, other) for group in first if group != other)
    made = [
        Lane(group.name, group.size, tuple(sorted(gives[g])), tuple(sorted(reads[g])))
        for g, group in enumerate(plan.groups)
    ]
    order = sorted(range(len(made)), key=lambda g: (made[g].first, made[g].last, g))
    row = {group: i for i, group in enumerate(order)}
    joined = tuple((depth, row[a], row[b]) for depth, a, b in meetings)
    return Lanes(tuple(made[g] for g in order), joined, max(depths.values(), default=0))


def _depths(plan: Plan) -> dict[str, int]:
    """The depth of every parameter and buffer with a layout."""
    found: dict[str, int] = {}
    start = 0
    for region in plan.regions.values():
        for mode in (False, True):
            for name, depth in _program_depths(region.programs[mode]):
                found.setdefault(name, start + depth)
        start = max(found.values(), default=-1) + 1
    return {name: _depth(name, found, start) for name in plan.layouts}


def _depth(name: str, found: Mapping[str, int], last: int) -> int:
    """Of a parameter itself, or of the layer that has it; what no program calls comes last."""
    return found.get(name, found.get(name.rpartition(".")[0], last))


def _program_depths(program: Program) -> Iterator[tuple[str, int]]:
    """The paths of layers and parameters that a program uses, each with the depth of its first use."""
    params = {node.name: node.target for node in program if node.op == "param"}
    reached: dict[str, int] = {}
    for node in program:
        depth = max((reached[name] for name in node.refs), default=0)
        used = [params[name] for name in node.refs if name in params] + ([node.target] if node.op == "module" else [])
        yield from ((path, depth) for path in used)
        reached[node.name] = depth + (node.op == "module" or bool(used))


# ------------------------------------------------------------------------------------------------------- drawing

_LANE = 0.2  # inches of a lane, where all of them are no higher than the tallest picture
_TALLEST = 26.0
_FONT = 7.0
_GIVES, _READS, _BAR, _MEETING = "#1d4ed8", "#f59e0b", "#93c5fd", "#cbd5e1"


def plot_groups(net: SlimNet, path: str | Path) -> None:
    """Draws the groups of a network: a lane each, from the first to the last layer that has it, in order of depth.

    The suffix of `path` chooses the format. InputError when it is no format, MissingError without matplotlib.
    """
    path = Path(path)
    figure = draw_lanes(lanes(runtime(net).plan), runtime(net).plan.model)
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix[1:] not in formats:
        raise InputError(f"{path} cannot be drawn: the name must end in one of .{', .'.join(sorted(formats))}.")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)


def draw_lanes(found: Lanes, title: str = "") -> Figure:
    """The picture, with as many names as fit: no text lies on another."""
    with needed("matplotlib", "pictures"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    count = max(1, len(found.lanes))
    height = min(_TALLEST, 1.4 + _LANE * count)
    figure = Figure(figsize=(11, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.03, 0.55 / height, 0.94, 1 - 1.15 / height))
    axes.set_xlim(-0.6 - 0.22 * (found.depth + 1), found.depth + 0.6)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= found.depth and tick == int(tick)])
    axes.set_xlim(-0.6 - 0.22 * (found.depth + 1), found.depth + 0.6)
    axes.set_xlabel("depth: layers on the longest way there", fontsize=8)
    axes.tick_params(labelsize=7)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    _marks(axes, found)
    _names(axes, found.lanes)
    figure.suptitle(
        f"{title}: {len(found.lanes)} channel groups", x=0.03, y=1 - 0.12 / height, ha="left", va="top", fontsize=10
    )
    _legend(figure, height)
    return figure


def _marks(axes: Axes, found: Lanes) -> None:
    widest = max((lane.size for lane in found.lanes), default=1)
    for depth, a, b in found.meetings:
        axes.plot([depth, depth], [a, b], color=_MEETING, linewidth=0.6, zorder=1)
    for row, lane in enumerate(found.lanes):
        thick = 1.2 + 4.5 * lane.size / widest
        axes.plot([lane.first, lane.last], [row, row], color=_BAR, linewidth=thick, solid_capstyle="round", zorder=2)
        axes.plot(lane.reads, [row] * len(lane.reads), "o", color=_READS, markersize=3, zorder=3)
        axes.plot(lane.gives, [row] * len(lane.gives), "o", color=_GIVES, markersize=3, zorder=4)


def _names(axes: Axes, found: Sequence[Lane]) -> None:
    """A name left of every lane, as long as it lies on no other one and inside the picture."""
    figure = axes.figure
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    taken: list[Bbox] = []
    for row, lane in enumerate(found):
        text = axes.annotate(
            f"{lane.name} · {lane.size}", (lane.first, row), xytext=(-5, 0), textcoords="offset points", ha="right",
            va="center", fontsize=_FONT, color="#1e293b", zorder=5,
            bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
        )  # fmt: skip
        _shorten(text, lane, renderer, figure.bbox)
        box = text.get_window_extent(renderer)
        if box.x0 < figure.bbox.x0 or any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def _shorten(text: Any, lane: Lane, renderer: object, room: BboxBase) -> None:
    """Leaves out the outer modules of a name that is too long for its place."""
    parts = lane.name.split(".")
    while text.get_window_extent(renderer).x0 < room.x0 and len(parts) > 1:
        parts = parts[1:]
        text.set_text(f"…{'.'.join(parts)} · {lane.size}")


def _legend(figure: Figure, height: float) -> None:
    from matplotlib.lines import Line2D

    given = (
        Line2D([], [], color=_BAR, linewidth=4),
        Line2D([], [], marker="o", linestyle="", color=_GIVES, markersize=4),
    )
    read = Line2D([], [], marker="o", linestyle="", color=_READS, markersize=4), Line2D([], [], color=_MEETING)
    words = [
        "a group, as thick as it is wide",
        "a layer gives it",
        "a layer reads it",
        "a layer reads one, gives the other",
    ]
    figure.legend(
        [*given, *read], words, loc="upper right", bbox_to_anchor=(0.98, 1 - 0.06 / height), ncols=4, fontsize=7,
        frameon=False, handlelength=1.6, columnspacing=1.2,
    )  # fmt: skip
