"""Laws of the layout algebra, on random layouts."""

from __future__ import annotations

import itertools
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netslim.layouts.axes import (
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
    fresh,
    from_positions,
    is_fixed,
    leaves,
    positions,
    product,
    resolve,
    runs,
)
from netslim.layouts.binding import cut, freeze, split, unify


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


def meaning(layout: Layout) -> list[frozenset[tuple[int, int]]]:
    """What must be kept for a position to be kept, for every position: entries of axes.

    A layout can be written in several ways: two equal parts one after another are a product with two.
    """
    layout = resolve(layout)
    if isinstance(layout, Axis):
        return [frozenset({(layout.id, i)}) for i in range(layout.size)]
    if isinstance(layout, Product):
        first, rest = meaning(layout.factors[0]), meaning(product(*layout.factors[1:]))
        return [a | b for a in first for b in rest]
    if isinstance(layout, Concat):
        return [entries for part in layout.parts for entries in meaning(part)]
    return [frozenset()] * layout.size


@given(layouts(), layouts())
def test_unified_layouts_are_equal(a: Layout, b: Layout) -> None:
    if a.size == b.size:
        unify(a, b, why)
        assert meaning(a) == meaning(b)


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


def brute(layout: Layout, kept: dict[int, set[int]]) -> list[bool]:
    """For every position, whether it is kept: a product is an outer product, a concatenation one list after another."""
    if isinstance(layout, Elastic):
        return [i in kept[layout.group] for i in range(layout.size)]
    if isinstance(layout, Product):
        first, rest = brute(layout.factors[0], kept), brute(product(*layout.factors[1:]), kept)
        return [a and b for a in first for b in rest]
    if isinstance(layout, Concat):
        return [k for part in layout.parts for k in brute(part, kept)]
    return [True] * layout.size


@given(layouts(3), st.data())
def test_index_sets_of_any_layout_and_any_channels_agree_with_brute_force(layout: Layout, data: st.DataObject) -> None:
    ids: dict[int, int] = {}
    whole = solved(layout, ids)
    sizes = {leaf.group: leaf.size for leaf in leaves(whole) if isinstance(leaf, Elastic)}
    kept = {g: data.draw(st.sets(st.integers(0, n - 1), min_size=1)) for g, n in sizes.items()}
    found = runs(whole, {g: from_positions(sorted(channels)) for g, channels in kept.items()})
    wanted = [i for i, keep in enumerate(brute(whole, kept)) if keep]
    assert list(positions(found)) == wanted
    assert all(length > 0 for _, length in found)
    assert all(a + n < b for (a, n), (b, _) in itertools.pairwise(found))  # as few runs as can be


@given(layouts(), layouts(), st.data())
def test_no_operation_changes_a_size(a: Layout, b: Layout, data: st.DataObject) -> None:
    sizes = a.size, b.size
    if a.size == b.size:
        unify(a, b, why)
    assert (product(a, b).size, concat(a, b).size) == (sizes[0] * sizes[1], sum(sizes))
    cut(a, data.draw(st.integers(0, a.size)))
    split(b, *data.draw(st.sampled_from([(d, b.size // d) for d in range(1, b.size + 1) if b.size % d == 0])), why)
    assert (resolve(a).size, resolve(b).size) == sizes


@given(layouts(), layouts(), st.data())
def test_what_is_unified_stays_unified_when_more_is_cut(a: Layout, b: Layout, data: st.DataObject) -> None:
    if a.size == b.size:
        unify(a, b, why)
        cut(a, data.draw(st.integers(0, a.size)))
        assert meaning(a) == meaning(b)


@given(layouts(), layouts(), st.data())
def test_unifying_what_is_equal_changes_nothing(a: Layout, b: Layout, data: st.DataObject) -> None:
    """However it is written: nothing is frozen for it, and solved layouts do not contradict each other."""
    if a.size == b.size:
        unify(a, b, why)
        cut(a, data.draw(st.integers(0, a.size)))
        before = meaning(a)
        unify(a, b, why)
        assert meaning(a) == meaning(b) == before
        ids: dict[int, int] = {}
        unify(solved(a, ids), solved(b, ids), why)


@given(layouts(), layouts())
def test_freezing_is_loud(a: Layout, b: Layout) -> None:
    """Whatever a unification fixes has its reason, or that of the constant it met."""
    before = [leaf for layout in (a, b) for leaf in leaves(layout) if isinstance(leaf, Axis)]
    silent = has_constants(a, b)
    if a.size == b.size:
        unify(a, b, why)
    for axis in before:
        for leaf in leaves(axis):
            assert not isinstance(leaf, Const) or leaf.size == 1 or leaf.reason is not None or silent


def has_constants(*given: Layout) -> bool:
    return any(isinstance(leaf, Const) and leaf.reason is None for layout in given for leaf in leaves(layout))


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


def test_long_concatenations_and_long_chains_are_unified() -> None:
    """As deep as a network is long: no call for every part."""
    sizes = [2 + i % 3 for i in range(3000)]
    a, b = (concat(*map(fresh, sizes)) for _ in range(2))
    unify(a, b, why)
    assert resolve(a) == resolve(b)
    left, right = cut(a, a.size // 2)
    assert left.size == a.size // 2
    assert resolve(concat(left, right)) == resolve(a)
    first = last = fresh(4)
    for _ in range(3000):
        following = fresh(4)
        unify(last, following, why)
        last = following
    assert resolve(first) is resolve(last)


def test_a_part_of_its_own_size_is_cut_no_further() -> None:
    whole, first, second = fresh(12), fresh(5), fresh(7)
    unify(concat(first, second), whole, why)
    assert resolve(whole) == concat(first, second)
    other = concat(fresh(3), fresh(9))
    unify(concat(*other.parts[:1], second, Const(2)), other, why)  # type: ignore[union-attr]
    assert not is_fixed(second)
