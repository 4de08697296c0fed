"""Tools with which an operator family makes one program node right for every width.

The program's integers are the full network's: a size that is read from an elastic dimension is scaled up to full
width, and a size that a call takes for an elastic dimension is scaled down to the kept width. At full width both
scalings are the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from netslim.ir.program import Literal, Node, Ref, Size
from netslim.layouts.axes import Concat, Layout, is_fixed, leaves
from netslim.layouts.binding import cut
from netslim.layouts.engine import Dims

Fit = Callable[[Node, "Fitting"], Node]
"""What makes a call right for every width."""
Number = int | float


class Fitting:
    """What a fit may ask about one node, and the extra nodes it puts before or after it.

    values: solved layouts of the tensors by node; numbers: what the traced numbers were; notes: what the rules said of
    this call; outs: layouts of its results; size: an entry of the plan's sizes; name: makes a name for a node.
    """

    def __init__(
        self,
        values: Mapping[str, Dims],
        numbers: Mapping[str, Number],
        notes: Mapping[str, Layout],
        outs: Sequence[Dims],
        size: Callable[[Layout, int], Size],
        name: Callable[[], str],
    ) -> None:
        self._values, self._numbers, self._size, self._name = values, numbers, size, name
        self.made: dict[str, Number] = {}  # what the numbers of its own nodes were
        self.notes, self.outs = notes, outs
        self.before: list[Node] = []

    def dims(self, ref: Literal) -> Dims:
        """Solved layouts of a tensor value."""
        if not isinstance(ref, Ref):
            raise TypeError(f"{ref!r} is no tensor")
        return self._values[ref.name]

    def value(self, expr: Literal) -> Literal:
        """A literal, or the number that an expression had when the model was traced."""
        return self._numbers[expr.name] if isinstance(expr, Ref) else expr

    def whole(self, expr: Literal) -> int:
        """The same, where it has to be a whole number."""
        value = self.value(expr)
        if not isinstance(value, int):
            raise TypeError(f"{value!r} is no whole number")
        return value

    def fixed(self, layout: Layout) -> bool:
        return is_fixed(layout)

    def size(self, layout: Layout, at: int | None = None) -> Size | int:
        """How many channels of `layout` are kept (below position `at`, if given)."""
        at = layout.size if at is None else at
        return at if is_fixed(layout) else self._size(layout, at)

    def resized(self, expr: Literal, layout: Layout) -> Literal:
        """A size argument written for the full network, made right for the kept width. -1 infers itself."""
        if is_fixed(layout) or (isinstance(expr, int) and expr < 0):
            return expr
        kept = self.size(layout)
        if isinstance(expr, int) or not _meets_constants(layout):
            return kept
        return self._changed(expr, layout, kept, layout.size)

    def varies(self, layout: Layout) -> bool:
        """Whether a layout holds more than channels: places in space perhaps, of which other images have others."""
        return _meets_constants(layout)

    def place(self, expr: Literal, layout: Layout) -> Literal:
        """A place along a dimension of the full network (from its end, if negative) as it is at the kept width."""
        value = self.whole(expr)
        at = min(layout.size, max(0, value + layout.size if value < 0 else value))
        if not _meets_constants(layout):
            return self.size(layout, at)
        if value < 0:
            behind = cut(layout, at)[1]
            kept = self.size(behind)
            return expr if isinstance(kept, int) else self._node("operator.sub", self._shifted(expr, behind.size), kept)
        before = self.size(layout, at)
        return before if expr == at else self._node("operator.add", self._shifted(expr, -at), before)

    def _shifted(self, expr: Literal, by: int) -> Literal:
        return expr + by if isinstance(expr, int) else self._node("operator.add", expr, by)

    def _node(self, function: str, a: Literal, b: Literal) -> Ref:
        made = Node(self._name(), "call", function, (a, b))
        self.before.append(made)
        return Ref(made.name)

    def full(self, expr: Ref, layout: Layout) -> Ref | int:
        """A size read from an elastic dimension, as it would be in the full network."""
        if not _meets_constants(layout):
            return layout.size
        return self._changed(expr, layout, layout.size, self.size(layout))

    def _changed(self, expr: Literal, layout: Layout, to: Size | int, was: Size | int) -> Ref:
        """A size with `to` channels in the place of those that `was`: beside places in space, or for each of them."""
        if _is_sum(layout):
            made = self._node("operator.add", self._node("operator.sub", expr, was), to)
        else:
            made = self._node("operator.floordiv", self._node("operator.mul", expr, to), was)
        if isinstance(expr, Ref) and expr.name in self._numbers:  # at full width, where it was traced, nothing changes
            self.made[made.name] = self._numbers[expr.name]
        return made

    def argument(self, node: Node, position: int, name: str, default: Literal = None) -> Literal:
        return node.args[position] if position < len(node.args) else node.kwargs.get(name, default)

    def set_argument(self, node: Node, position: int, name: str, value: Literal) -> Node:
        if position < len(node.args):
            return replace(node, args=(*node.args[:position], value, *node.args[position + 1 :]))
        return replace(node, kwargs={**node.kwargs, name: value})

    def entries(self, node: Node, position: int, name: str) -> tuple[Literal, ...]:
        """An argument that holds several."""
        found = self.argument(node, position, name)
        if not isinstance(found, (tuple, list)):
            raise TypeError(f"{found!r} are not several")
        return tuple(found)


class Unfitted(Fitting):
    """Asks a fit which layouts it would need a new size for, where no call can be changed.

    A size that was read from a tensor changes by itself; `wanted` collects the layouts whose sizes are written down.
    """

    def __init__(
        self,
        values: Mapping[str, Dims],
        numbers: Mapping[str, Number],
        notes: Mapping[str, Layout],
        outs: Sequence[Dims],
    ) -> None:
        super().__init__(values, numbers, notes, outs, lambda _layout, at: Size(at), lambda: "unused")
        self.wanted: list[Layout] = []

    def size(self, layout: Layout, at: int | None = None) -> Size | int:
        if not is_fixed(layout):
            self.wanted.append(layout)
        return layout.size if at is None else at

    def resized(self, expr: Literal, layout: Layout) -> Literal:
        if isinstance(expr, int) and expr >= 0:
            self.size(layout)
        return expr


def _meets_constants(layout: Layout) -> bool:
    """Whether constants (perhaps batch or space, whose sizes vary) are factors or parts of the layout."""
    return sum(1 for _ in leaves(layout)) > 1 and any(is_fixed(leaf) for leaf in leaves(layout))


def _is_sum(layout: Layout) -> bool:
    """Whether constants and channels lie one after another, and nowhere in a product with each other."""
    return isinstance(layout, Concat) and not any(
        _meets_constants(part) and not is_fixed(part) for part in layout.parts
    )


def fit_noted(position: int, name: str) -> Fit:
    """A fit for an integer argument that an operator rule has noted as counting channels."""

    def fit(node: Node, fitting: Fitting) -> Node:
        layout = fitting.notes.get(name)
        if layout is None or is_fixed(layout):
            return node
        given = fitting.argument(node, position, name)
        return fitting.set_argument(node, position, name, fitting.resized(given, layout))

    return fit


def spread(args: Sequence[Literal]) -> Sequence[Literal]:
    """The sizes of a call that takes them one by one or as one tuple."""
    return args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
