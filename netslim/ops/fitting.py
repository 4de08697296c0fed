"""Tools with which an operator family makes one program node right for every width.

The program's integers are the full network's: a size that is read from an elastic dimension is scaled up to full
width, and a size that a call takes for an elastic dimension is scaled down to the kept width. At full width both
scalings are the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from netslim.ir.program import Node, Ref, Size
from netslim.layouts.axes import Layout, is_fixed, leaves

Fit = Callable[[Node, "Fitting"], Node]


class Fitting:
    """What a fit may ask about one node, and the extra nodes it puts before or after it."""

    def __init__(
        self,
        values: Mapping[str, Any],
        numbers: Mapping[str, Any],
        notes: Mapping[str, Layout],
        outs: Any,
        size: Callable[[Layout, int], Size],
        name: Callable[[], str],
    ) -> None:
        self._values, self._numbers, self._size, self._name = values, numbers, size, name
        self.notes, self.outs = notes, outs
        self.before: list[Node] = []

    def dims(self, ref: Any) -> list[Layout]:
        """Solved layouts of a tensor value."""
        return self._values[ref.name]

    def value(self, expr: Any) -> Any:
        """A literal, or the number that an expression had when the model was traced."""
        return self._numbers[expr.name] if isinstance(expr, Ref) else expr

    def fixed(self, layout: Layout) -> bool:
        return is_fixed(layout)

    def size(self, layout: Layout, at: int | None = None) -> Size | int:
        """How many channels of `layout` are kept (below position `at`, if given)."""
        at = layout.size if at is None else at
        return at if is_fixed(layout) else self._size(layout, at)

    def resized(self, expr: Any, layout: Layout) -> Any:
        """A size argument written for the full network, made right for the kept width. -1 infers itself."""
        if is_fixed(layout) or (isinstance(expr, int) and expr < 0):
            return expr
        kept = self.size(layout)
        if isinstance(expr, int) or not _meets_constants(layout):
            return kept
        return self._scaled(expr, kept, layout.size)

    def full(self, expr: Ref, layout: Layout) -> Any:
        """A size read from an elastic dimension, as it would be in the full network."""
        if not _meets_constants(layout):
            return layout.size
        return self._scaled(expr, layout.size, self.size(layout))

    def _scaled(self, expr: Any, times: Any, by: Any) -> Ref:
        product = Node(self._name(), "call", "operator.mul", (expr, times))
        quotient = Node(self._name(), "call", "operator.floordiv", (Ref(product.name), by))
        self.before += [product, quotient]
        return Ref(quotient.name)

    def argument(self, node: Node, position: int, name: str, default: Any = None) -> Any:
        return node.args[position] if position < len(node.args) else node.kwargs.get(name, default)

    def set_argument(self, node: Node, position: int, name: str, value: Any) -> Node:
        if position < len(node.args):
            return replace(node, args=(*node.args[:position], value, *node.args[position + 1 :]))
        return replace(node, kwargs={**node.kwargs, name: value})

    def replace(self, node: Node, **changes: Any) -> Node:
        return replace(node, **changes)


class Unfitted(Fitting):
    """Asks a fit which layouts it would need a new size for, where no call can be changed.

    A size that was read from a tensor changes by itself; `wanted` collects the layouts whose sizes are written down.
    """

    def __init__(
        self, values: Mapping[str, Any], numbers: Mapping[str, Any], notes: Mapping[str, Layout], outs: Any
    ) -> None:
        super().__init__(values, numbers, notes, outs, lambda _layout, at: Size(at), lambda: "unused")
        self.wanted: list[Layout] = []

    def size(self, layout: Layout, at: int | None = None) -> Size | int:
        if not is_fixed(layout):
            self.wanted.append(layout)
        return layout.size if at is None else at

    def resized(self, expr: Any, layout: Layout) -> Any:
        if isinstance(expr, int) and expr >= 0:
            self.size(layout)
        return expr


def _meets_constants(layout: Layout) -> bool:
    """Whether constants (perhaps batch or space, whose sizes vary) are factors or parts of the layout."""
    return sum(1 for _ in leaves(layout)) > 1 and any(is_fixed(leaf) for leaf in leaves(layout))


def fit_noted(position: int, name: str) -> Fit:
    """A fit for an integer argument that an operator rule has noted as counting channels."""

    def fit(node: Node, fitting: Fitting) -> Node:
        layout = fitting.notes.get(name)
        if layout is None or is_fixed(layout):
            return node
        return fitting.set_argument(node, position, name, fitting.size(layout))

    return fit


def spread(args: Sequence[Any]) -> Sequence[Any]:
    """The sizes of a call that takes them one by one or as one tuple."""
    return args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
