"""Binding axes: the only operations that say what an unknown run of channels is.

They never fail: what cannot be aligned is frozen with a reason. One layout can be written in several ways ([a + a] is
(2 * a)); what is unified means the same, and stays so whatever is bound later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from netslim.layouts.axes import (
    Axis,
    Concat,
    Const,
    Elastic,
    Layout,
    Misaligned,
    Product,
    Reason,
    Why,
    concat,
    fresh,
    is_fixed,
    leaves,
    product,
    resolve,
)  # fmt: skip


def freeze(layout: Layout, why: Why) -> None:
    """Bind every free axis of `layout` to a constant. Raises Misaligned when a solved group is among them."""
    found, reason = list(leaves(layout)), None
    solved = {leaf.group for leaf in found if isinstance(leaf, Elastic)}
    if solved:
        raise Misaligned(dict.fromkeys(solved, why()))
    for leaf in found:
        if isinstance(leaf, Axis) and leaf.bound is None:
            reason = reason or why()
            leaf.bound = Const(leaf.size, reason)


def unify(a: Layout, b: Layout, why: Why) -> None:
    """Make two layouts of one size the same, as finely as needed; freeze what cannot be aligned."""
    a, b = resolve(a), resolve(b)
    if a == b:
        return
    if is_fixed(a) or is_fixed(b):
        fixed, other = (a, b) if is_fixed(a) else (b, a)
        reason = next((leaf.reason for leaf in leaves(fixed) if isinstance(leaf, Const) and leaf.reason), None)
        freeze(other, (lambda: reason) if reason else _meets_fixed(why))
    elif isinstance(a, Axis) or isinstance(b, Axis):
        axis, other = (a, b) if isinstance(a, Axis) else (b, a)
        if any(leaf is axis for leaf in leaves(other)):
            freeze(other, why)
        else:
            axis.bound = other  # type: ignore[union-attr]
    elif isinstance(a, Concat) or isinstance(b, Concat):
        _unify_parts(a, b, why) if isinstance(a, Concat) else _unify_parts(b, a, why)
    elif isinstance(a, Product) and isinstance(b, Product):
        _unify_products(a, b, why)
    else:
        freeze(product(a, b), why)


MEETS_FIXED = "meets a dimension of fixed size"


def _meets_fixed(why: Why) -> Why:
    return lambda: replace(why(), text=MEETS_FIXED)


def _unify_parts(parts: Layout, other: Layout, why: Why) -> None:
    """Each part with what lies at its place in the other layout, which is cut where it has to be."""
    left, right = _Rest(parts), _Rest(other)
    while left.parts and right.parts:
        first = left.take()
        unify(first, concat(*right.take_size(first.size)), why)
        if isinstance(right.last, Axis):  # it can be all the rest
            unify(right.last, concat(*reversed(left.parts)), why)
            return


class _Rest:
    """What is left of a layout, the next part last."""

    def __init__(self, layout: Layout) -> None:
        self.parts = [layout]

    @property
    def last(self) -> Layout | None:
        """The only part that is left, None where there are more."""
        return resolve(self.parts[0]) if len(self.parts) == 1 else None

    def take(self) -> Layout:
        """The next part that is no concatenation."""
        while isinstance(part := resolve(self.parts.pop()), Concat):
            self.parts += reversed(part.parts)
        return part

    def take_size(self, size: int) -> Iterator[Layout]:
        """The next parts, so many channels; the last of them is cut."""
        while size:
            part = self.take()
            if part.size > size:
                part, rest = cut(part, size)
                self.parts.append(rest)
            size -= part.size
            yield part


def _unify_products(a: Product, b: Product, why: Why) -> None:
    if a.factors[0].size < b.factors[0].size:
        a, b = b, a
    big, small = a.factors[0], b.factors[0]
    if big.size % small.size:
        freeze(a, why)
        freeze(b, why)
        return
    outer, inner = split(big, small.size, big.size // small.size, why)
    unify(outer, small, why)
    unify(product(inner, *a.factors[1:]), product(*b.factors[1:]), why)


def cut(layout: Layout, at: int) -> tuple[Layout, Layout]:
    """The layouts of `[:at]` and `[at:]`; always possible."""
    layout = resolve(layout)
    if at <= 0 or at >= layout.size:
        return (Const(0), layout) if at <= 0 else (layout, Const(0))
    if isinstance(layout, Const):
        return Const(at, layout.reason), Const(layout.size - at, layout.reason)
    if isinstance(layout, Axis):
        halves = fresh(at, _SINGLE), fresh(layout.size - at, _SINGLE)
        layout.bound = concat(*halves)
        return halves
    if isinstance(layout, Concat):
        after = _Rest(layout)
        before = concat(*after.take_size(at))
        return before, concat(*reversed(after.parts))
    if isinstance(layout, Product):
        lead, rest = layout.factors[0], product(*layout.factors[1:])
        whole, extra = divmod(at, rest.size)
        first, last = cut(lead, whole)
        if not extra:
            return product(first, rest), product(last, rest)
        _, last = cut(last, 1)  # the cut runs through one step of the leading factor
        left, right = cut(rest, extra)
        return concat(product(first, rest), left), concat(right, product(last, rest))
    raise Misaligned({layout.group: Reason(f"a cut at {at} runs through its {layout.size} channels")})


_SINGLE = Reason("meets a single channel that a split or slice left over, and one channel always stays")


def split(layout: Layout, outer: int, inner: int, why: Why) -> tuple[Layout, Layout]:
    """Factors of sizes (outer, inner) whose row-major product is `layout`; frozen where they do not exist."""
    layout = resolve(layout)
    if outer == 1 or inner == 1:
        return (Const(1), layout) if outer == 1 else (layout, Const(1))
    if isinstance(layout, Const):
        return Const(outer, layout.reason), Const(inner, layout.reason)
    if isinstance(layout, Axis):
        factors = fresh(outer), fresh(inner)
        layout.bound = product(*factors)
        return factors
    if isinstance(layout, Product):
        lead, rest = layout.factors[0], product(*layout.factors[1:])
        if lead.size % outer == 0:
            first, second = split(lead, outer, lead.size // outer, why)
            return first, product(second, rest)
        if outer % lead.size == 0:
            first, second = split(rest, outer // lead.size, inner, why)
            return product(lead, first), second
    if isinstance(layout, Concat):
        if all(part.size % inner == 0 for part in layout.parts):
            pairs = [split(part, part.size // inner, inner, why) for part in layout.parts]
            for _, second in pairs[1:]:
                unify(pairs[0][1], second, why)
            return concat(*(first for first, _ in pairs)), pairs[0][1]
        if outer <= _MOST_PIECES:
            return Const(outer), _equal_pieces(layout, outer, inner, why)
    freeze(layout, why)
    return Const(outer, why()), Const(inner, why())


_MOST_PIECES = 8  # beyond this a concatenation that does not divide is frozen rather than cut to crumbs


def _equal_pieces(layout: Layout, count: int, size: int, why: Why) -> Layout:
    first, rest = cut(layout, size)
    for _ in range(count - 1):
        piece, rest = cut(rest, size)
        unify(first, piece, why)
    return resolve(first)
