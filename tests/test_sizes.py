"""How numbers follow from sizes, and what holds a program to further recordings."""

from __future__ import annotations

import functools
import gc
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netslim
from netslim.errors import InputError
from netslim.net.runtime import runtime
from netslim.trace import caches, holding
from netslim.trace.formulas import Feature, evaluated, formula
from tests.zoo.catalogue.python_sizes import SizedNet

BATCH, HEIGHT, WIDTH = Feature("n"), Feature("h"), Feature("w")
RECORDED = {
    BATCH: (2, 3, 1, 2, 2, 5, 2, 3, 7),
    HEIGHT: (32, 64, 64, 128, 96, 16, 33, 39, 356),
    WIDTH: (32, 64, 96, 32, 32, 16, 35, 34, 192),
}
OTHERS = [(1, 24, 40), (4, 57, 57), (9, 1000, 17), (2, 7, 300)]


class Sizes(NamedTuple):
    """Images: how many, and their sides."""

    n: int
    h: int
    w: int


FORMULAS: dict[str, Callable[[Sizes], float]] = {
    "half": lambda s: int(s.h * 0.5),
    "a decimal": lambda s: int(0.29 * s.h),
    "rounded to even": lambda s: round(s.h / 2),
    "ceil": lambda s: math.ceil(s.h / 3),
    "up to a multiple": lambda s: (s.h + 7) // 8 * 8,
    "down to a multiple, and one": lambda s: s.w // 4 * 4 + 1,
    "a remainder": lambda s: s.h % 5,
    "what is missing": lambda s: -s.w % 20,
    "the larger": lambda s: max(s.h, s.w),
    "the larger, enlarged": lambda s: int(max(s.h, s.w) * 1.25),
    "at most": lambda s: min(s.h, 40),
    "area": lambda s: s.h * s.w,
    "area in quarters": lambda s: s.h * s.w // 4,
    "all entries": lambda s: 8 * s.n * s.h * s.w,
    "root of the area": lambda s: math.isqrt(s.h * s.w),
    "a fraction": lambda s: s.h / 30,
    "aspect": lambda s: s.h / s.w,
    "a logarithm": lambda s: math.log2(s.h),
    "an inverse root": lambda s: 1 / math.sqrt(s.w),
    "to a side": lambda s: 64 / s.h,
    "mean": lambda s: (s.h + s.w) / 2,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_holds_at_sizes_that_it_was_not_found_with(name: str) -> None:
    wanted = FORMULAS[name]
    found = formula(tuple(map(wanted, map(Sizes, *RECORDED.values()))), RECORDED)
    assert found is not None
    for sizes in OTHERS:
        value = dict(zip(RECORDED, sizes, strict=True)).__getitem__
        assert evaluated(found, value) == wanted(Sizes(*sizes))


@pytest.mark.parametrize(
    "values", [(3, 1, 4, 1, 5, 9, 2, 6, 5), (3, 3, 3, 3, 3, 2, 3, 3, 4), (0.1, 7.0, 0.3, 2.2, 9.1, 4.4, 0.6, 1.8, 5.0)]
)
def test_numbers_that_follow_from_nothing_have_no_formula(values: tuple[float, ...]) -> None:
    assert formula(values, RECORDED) is None


def converted(middle: Callable[[Tensor], Tensor], *, fixed_size: bool = False) -> netslim.SlimNet:
    return netslim.convert(SizedNet(middle), torch.randn(2, 3, 32, 32), prove=False, fixed_size=fixed_size).eval()


def test_a_comparison_refuses_the_sizes_that_take_another_way_and_names_the_line() -> None:
    net = converted(lambda h: 2 * h if h.shape[2] > 40 else h)
    assert net(torch.randn(3, 3, 40, 64)).shape == (3, 4)
    with pytest.raises(InputError, match=r"test_sizes\.py:\d+ in <lambda>"):
        net(torch.randn(2, 3, 41, 32))


def test_an_extracted_network_refuses_them_too() -> None:
    small = converted(lambda h: 2 * h if h.shape[2] > 40 else h).extract(width=0.5)
    with pytest.raises(ValueError, match=r"test_sizes\.py:\d+ in <lambda>"):
        small(torch.randn(2, 3, 41, 32))


def test_a_file_keeps_refusals_and_formulas(tmp_path) -> None:  # type: ignore[no-untyped-def]
    net = converted(lambda h: F.interpolate(h, size=int(h.shape[2] * 0.5)) if h.shape[3] < 70 else h)
    netslim.save(net, tmp_path / "net.pt")
    loaded = netslim.load(tmp_path / "net.pt").eval()
    images = torch.randn(3, 3, 48, 37)
    assert torch.equal(loaded(images), net(images))
    with pytest.raises(InputError, match=r"test_sizes\.py"):
        loaded(torch.randn(2, 3, 32, 80))


def test_a_comparison_without_consequence_refuses_nothing() -> None:
    net = converted(lambda h: F.interpolate(h, size=(max(h.shape[2:]), min(h.shape[2:]))))
    assert not runtime(net).plan.specialised
    for shape in ((1, 3, 20, 50), (1, 3, 50, 20), (1, 3, 30, 30)):
        images = torch.randn(shape)
        assert net(images).shape == (1, 4)


def test_a_refusal_inside_a_block_leaves_it_skippable() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            b = self.body(h)
            return self.head((h + (b if b.shape[2] < 200 else 2 * b)).mean((2, 3)))

    net = netslim.convert(Residual(), torch.randn(2, 3, 8, 8))
    assert [block.name for block in net.blocks] == ["body"]
    with pytest.raises(InputError, match=r"test_sizes\.py:\d+ in forward"):
        net(torch.randn(1, 3, 200, 8))
    with net.sub(depth={"body": False}):
        assert net(torch.randn(1, 3, 200, 8)).shape == (1, 4)


def test_a_size_that_forward_took_at_one_value_only_is_refused_at_another() -> None:
    class OfOneSize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            side = int(x.shape[2])
            if side != 24:
                raise ValueError("24 alone")
            return self.head(self.conv(x).mean((2, 3))) * side

    net = netslim.convert(OfOneSize(), torch.randn(2, 3, 24, 24), prove=False)
    with pytest.raises(InputError, match=r"followed at 24 .*none of the other sizes"):
        net(torch.randn(2, 3, 47, 47))


@functools.lru_cache
def table(height: int, width: int) -> Tensor:
    return torch.ones(height, width).cumsum(0) / 32


@pytest.mark.parametrize("aside", [False, True])
def test_caches_around_forward_keep_nothing_of_a_conversion(aside: bool, request: pytest.FixtureRequest) -> None:
    """Also where a program has put its objects aside from Python's collector, as servers do."""
    if aside:
        request.addfinalizer(gc.unfreeze)
        caches._known.clear()
        gc.freeze()
    model = SizedNet(lambda h: h * table(h.shape[2], h.shape[3])).eval()
    images = torch.randn(2, 3, 32, 32)
    for warm in (False, True):
        wanted = model(images) if warm else None
        net = netslim.convert(model, images).eval()
        assert table(32, 32).device.type == "cpu"
        assert type(table(32, 32)[0, 0].item()) is float
        assert torch.equal(net(images), model(images) if wanted is None else wanted)
        other = torch.randn(3, 3, 20, 44)
        assert torch.equal(net(other), model(other))


def _nothing(*_: Any, **__: Any) -> list[Any]:
    return []


def test_a_number_that_is_not_held_to_other_sizes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without further recordings the example's size would be in the program: what the checks here rest on."""
    monkeypatch.setattr(holding.Witnesses, "_first", _nothing)
    monkeypatch.setattr(holding.Witnesses, "_pins", _nothing)
    model = SizedNet(lambda h: F.interpolate(h, size=int(h.shape[2] * 0.5))).eval()
    net = netslim.convert(model, torch.randn(2, 3, 32, 32), prove=False).eval()
    images = torch.randn(2, 3, 48, 48)
    assert not torch.allclose(net(images), model(images))


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_with_fixed_size_a_loop_over_the_batch_is_proved_at_the_batch_of_the_example(batch: int) -> None:
    def one_by_one(h: Tensor) -> Tensor:
        return torch.stack([image / (1 + image.abs().mean()) for image in h])

    model, images = SizedNet(one_by_one).eval(), torch.randn(batch, 3, 16, 16)
    net = netslim.convert(model, images, fixed_size=True).eval()
    plan, proof = runtime(net).plan, runtime(net).proof
    assert plan.whole is not None
    assert proof is not None
    assert proof.passed
    assert torch.equal(net(images), model(images))
    with pytest.raises(InputError, match=r"test_sizes\.py:\d+"):
        net(torch.randn(batch + 1, 3, 16, 16))
