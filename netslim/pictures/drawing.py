"""From a converted network to its scene: steps, groups, blocks, what is frozen, and what every width costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from netslim.cost import count
from netslim.errors import is_interruption
from netslim.ir.program import LIFTED
from netslim.ir.ties import Slot
from netslim.ir.why import Explainer
from netslim.layouts.axes import Layout
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.net.subnet import keep_counts
from netslim.pictures.scene import Named, Scene, Step, Stop, Tensor
from netslim.pictures.steps import kind, steps

WIDTHS = tuple(i / 10 for i in range(1, 11))
"""Where the width slider can stand."""


def drawing(net: SlimNet, title: str, progress: Callable[[str, float], None] = lambda _stage, _done: None) -> Scene:
    """Everything that the page shows. It runs the network without weights, and counts it at each of WIDTHS."""
    plan = runtime(net).plan
    progress("draw", 0.0)
    found, left_out = steps(net)
    modules = dict.fromkeys(path for step in found for path in _with_holders(step.module))
    explainer = Explainer(plan)
    shown = dict.fromkeys(name for step in found for name in step.tensors if name in plan.layouts)
    reasons = {name: _why(explainer, name, plan.layouts[name]) for name in shown}
    stops = []
    for i, width in enumerate(WIDTHS):
        progress("count", i / len(WIDTHS))
        stops.append(_stop(net, width))
    return Scene(
        title=title,
        steps=found,
        modules={path: _container(net, path) for path in modules},
        tensors={name: Tensor(plan.layouts[name], why) for name, why in shortened(reasons).items()},
        groups=tuple(Named(g.name, g.size, places=_places(g.slots)) for g in plan.groups),
        blocks=tuple(Named(b.name, b.params, b.where) for b in plan.blocks),
        frozen=tuple(Named(_reason(f.reason, f.op), f.size, f.where, _places(f.slots)) for f in plan.frozen),
        stops=tuple(stops),
        notes=(*_notes(net, found), *left_out),
    )


def _with_holders(path: str) -> list[str]:
    parts = path.split(".") if path else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _stop(net: SlimNet, width: float) -> Stop:
    kept = keep_counts(runtime(net).plan, width)
    try:
        cost = count(net, width)
    except Exception as error:  # the drawing is right without it, and says so
        if is_interruption(error):
            raise
        return Stop(width, kept, None, None)
    return Stop(width, kept, cost.params, cost.flops)


def _container(net: SlimNet, path: str) -> str:
    """The class of a module, where the converted network still has it."""
    name = kind(net, path)
    return "" if name == "Module" else name


def _why(explainer: Explainer, name: str, dims: Sequence[Layout]) -> str:
    """What `net.why` says; constants of forward have no name to ask for."""
    slots = [Slot(name, dim) for dim in range(len(dims))]
    return "" if LIFTED in name.split(".") else str(explainer.brief(name, slots))


def shortened(reasons: Mapping[str, str], most: int = 1_000_000) -> dict[str, str]:
    """Texts of as many lines each as fit into `most` characters together; one line each in any case."""
    for lines in (50, 20, 10, 5, 3, 2, 1):
        cut = {name: _first(text.splitlines(), lines) for name, text in reasons.items()}
        if sum(map(len, cut.values())) <= most:
            break
    return cut


def _first(lines: list[str], most: int) -> str:
    more = len(lines) - most
    return "\n".join([*lines[:most], *([f"and {more} more lines: netslim inspect --why"] if more > 0 else [])])


def _places(slots: tuple[Slot, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(slot.param for slot in slots))


def _reason(reason: str, op: str) -> str:
    return f"{reason} ({op})" if op else reason


def _notes(net: SlimNet, found: tuple[Step, ...]) -> Iterator[str]:
    plan = runtime(net).plan
    if plan.refusal:
        yield f"Followed in parts: {plan.refusal}"
        yield "What Python does between the parts is not drawn; dashed lines say who calls whom."
    if plan.specialised:
        yield "Sizes and dtypes that take another way than the example's are refused: " + "; ".join(plan.specialised)
    if not found:
        yield "Nothing of this network could be followed."
