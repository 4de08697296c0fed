"""Laws of the layout algebra, on random layouts."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netslim.axes import (
    Axis,
    Concat,
    Const,
    Elastic,
    Layout,
    Misaligned,
    Product,
    Reason,
    concat,
    count,
    cut,
    freeze,
    fresh,
    is_fixed,
    leaves,
    positions,
    product,
    resolve,
    runs,
    split,
    unify,
)


def why() -> Reason:
    return Reason("test")


def layouts(depth: int = 2) -> st.SearchStrategy[Layout]:
    leaf = st.one_of(st.integers(1, 6).map(fresh), st.integers(1, 6).map(Const))
    if not depth:
        return leaf
    child = st.lists(layouts(depth - 1), min_size=1, max_size=3)
    return st.one_of(leaf, child.map(lambda c: concat(*c)), child.map(lambda c: product(*c)))


def solved(layout: Layout, ids: dict[int, int]) -> Layout:
    layout = resolve(layout)
    if isinstance(layout, Axis):
        return Elastic(ids.setdefault(layout.id, len(ids)), layout.size)
    if isinstance(layout, Product):
        return product(*(solved(f, ids) for f in layout.factors))
    return concat(*(solved(p, ids) for p in layout.parts)) if isinstance(layout, Concat) else layout


@given(layouts(), layouts())
def test_unified_layouts_are_equal_or_frozen(a: Layout, b: Layout) -> None:
    if a.size == b.size:
        unify(a, b, why)
        assert resolve(a) == resolve(b) or (is_fixed(a) and is_fixed(b))


@given(layouts(), st.data())
def test_a_cut_put_together_again_is_the_whole(layout: Layout, data: st.DataObject) -> None:
    size = layout.size
    left, right = cut(layout, data.draw(st.integers(0, size)))
    ids: dict[int, int] = {}
    whole, parts = solved(layout, ids), solved(concat(left, right), ids)
    kept = dict.fromkeys(ids.values(), ((0, 1),))
    assert left.size + right.size == size
    assert list(positions(runs(whole, kept))) == list(positions(runs(parts, kept)))


@given(layouts(), st.data())
def test_a_split_multiplied_again_is_the_whole(layout: Layout, data: st.DataObject) -> None:
    size = layout.size
    outer = data.draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
    first, second = split(layout, outer, size // outer, why)
    ids: dict[int, int] = {}
    whole, parts = solved(layout, ids), solved(product(first, second), ids)
    kept = dict.fromkeys(ids.values(), ((0, 1),))
    assert (first.size, second.size) == (outer, size // outer)
    assert list(positions(runs(whole, kept))) == list(positions(runs(parts, kept)))


@given(st.lists(st.integers(2, 5), min_size=1, max_size=3), st.data())
def test_the_index_set_of_a_product_is_the_outer_product(sizes: list[int], data: st.DataObject) -> None:
    keep = [data.draw(st.integers(1, n)) for n in sizes]
    layout = product(*(Elastic(i, n) for i, n in enumerate(sizes)))
    wanted = [
        p for p in range(prod(sizes))
        if all(p // prod(sizes[i + 1 :]) % n < keep[i] for i, n in enumerate(sizes))
    ]  # fmt: skip
    assert list(positions(runs(layout, {i: ((0, k),) for i, k in enumerate(keep)}))) == wanted


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_the_index_set_of_a_concatenation_has_its_parts_at_their_offsets(sizes: list[int], data: st.DataObject) -> None:
    keep = [data.draw(st.integers(1, n)) for n in sizes]
    layout = Concat(tuple(Elastic(i, n) for i, n in enumerate(sizes)))
    wanted = [sum(sizes[:i]) + j for i, k in enumerate(keep) for j in range(k)]
    found = runs(layout, {i: ((0, k),) for i, k in enumerate(keep)})
    assert list(positions(found)) == wanted
    assert count(found) == len(wanted)
    assert all(count(found, below=p) == sum(w < p for w in wanted) for p in range(sum(sizes) + 1))


def test_a_prefix_is_one_run() -> None:
    layout = Product((Elastic(0, 8), Const(4)))
    assert runs(layout, {0: ((0, 3),)}) == ((0, 12),)


def test_a_frozen_axis_keeps_its_reason() -> None:
    axis = fresh(8)
    freeze(axis, lambda: Reason("a window", "conv1d", "net.py:3"))
    (leaf,) = leaves(axis)
    assert isinstance(leaf, Const)
    assert leaf.reason == Reason("a window", "conv1d", "net.py:3")


def test_what_cannot_be_aligned_is_frozen() -> None:
    a, b = product(fresh(2), fresh(3), fresh(2)), product(fresh(3), fresh(4))
    unify(a, b, why)
    assert is_fixed(a)
    assert is_fixed(b)


def test_a_concatenation_of_equal_parts_is_a_product() -> None:
    first, second = fresh(29), fresh(29)
    outer, inner = split(concat(first, second), 2, 29, why)
    assert resolve(outer) == Const(2)
    assert resolve(first) is resolve(second) is resolve(inner)


def test_an_axis_does_not_contain_itself() -> None:
    axis = fresh(4)
    unify(axis, concat(*cut(axis, 2)), why)
    assert not is_fixed(axis)


def test_a_solved_group_does_not_bend() -> None:
    with pytest.raises(Misaligned):
        unify(Elastic(0, 4), Const(4), why)
