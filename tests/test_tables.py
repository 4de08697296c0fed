"""Tables that forward works out from sizes and keeps for the next call: converted networks work them out anew."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SIZES = ((2, 3, 8, 8), (3, 3, 12, 10), (2, 3, 8, 8), (1, 3, 6, 9), (1, 3, 1, 1))


def table(height: int, width: int) -> Tensor:
    """How far apart the places of an image are, (1, n, n)."""
    place = torch.arange(height * width, dtype=torch.float32)
    return ((place[:, None] - place[None]) % 7 / 7)[None]


class Attending(nn.Module):
    """Attention over the places of an image, with a bias for every two of them."""

    def __init__(self, first: object, bias: Callable[[Any, int, int], Tensor]) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(12, 4)
        self.q, self.k, self.v = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(8, 12)
        self.key, self.bias, self.scale = None, bias, nn.Parameter(torch.rand(()))
        if isinstance(first, Tensor):
            self.register_buffer("table", first)
        else:
            self.table = copy.copy(first)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        height, width = h.shape[-2:]
        n = h.flatten(2).transpose(1, 2)
        return self.head(((self.q(n) @ self.k(n).mT + self.bias(self, height, width)).softmax(-1) @ self.v(n)).mean(1))


def by_size(m: Any, height: int, width: int) -> Tensor:
    if m.table.shape[1] != height * width:
        m.table = table(height, width)
    return m.table


def if_there_is_none(m: Any, height: int, width: int) -> Tensor:
    if m.table is None or m.table.shape[1] != height * width:
        m.table = table(height, width)
    return m.table


def by_a_key(m: Any, height: int, width: int) -> Tensor:
    if m.key != (height, width):
        m.table, m.key = table(height, width), (height, width)
    return m.table


def in_a_dict(m: Any, height: int, width: int) -> Tensor:
    if (height, width) not in m.table:
        m.table[height, width] = table(height, width)
    return m.table[height, width]


def if_it_is_too_small(m: Any, height: int, width: int) -> Tensor:
    n = height * width
    if m.table.shape[1] < n:
        m.table = table(height, width)
    return m.table[:, :n, :n]


def in_place(m: Any, height: int, width: int) -> Tensor:
    n = height * width
    if m.table.numel() != n**2:
        m.table = m.table.new_empty(1, n, n)
        m.table.copy_(table(height, width))
    return m.table


FORMS = [
    (torch.zeros(1, 1, 1), by_size), (torch.zeros(0, 0, 0), by_size), (None, if_there_is_none),
    (torch.zeros(1, 1, 1), by_a_key), (None, by_a_key), ({}, in_a_dict), (table(2, 3), if_it_is_too_small),
    (torch.zeros(0), in_place),
]  # fmt: skip


def compare(model: nn.Module, net: netslim.SlimNet) -> None:
    for size in SIZES:
        images = torch.randn(size, generator=torch.Generator().manual_seed(1))
        for training in (True, False):
            torch.testing.assert_close(net.train(training)(images), model.train(training)(images))


@pytest.mark.parametrize(("first", "bias"), FORMS)
def test_a_table_that_is_kept_for_a_size_is_right_at_every_size_from_the_first_call_on(
    first: object, bias: Callable[[Any, int, int], Tensor]
) -> None:
    model = Attending(first, bias)
    net = netslim.convert(model, IMAGES)
    assert net.plan.refusal == ""
    assert [group.size for group in net.groups] == [8, 12, 12], "a table is no channel"
    compare(model, net)
    with net.sub(0.5):
        inside = net(IMAGES)
    torch.testing.assert_close(net.extract(0.5)(IMAGES), inside)


@pytest.mark.parametrize(("first", "bias"), [form for form in FORMS if form[1] is not if_it_is_too_small])
def test_a_model_that_has_run_before_is_converted_for_every_size(
    first: object, bias: Callable[[Any, int, int], Tensor]
) -> None:
    model = Attending(first, bias)
    model(IMAGES)
    net = netslim.convert(model, IMAGES)
    assert net.plan.refusal == ""
    assert [group.size for group in net.groups] == [8, 12, 12], "a table is no channel"
    compare(model, net)


def of_a_parameter(m: Any, height: int, width: int) -> Tensor:
    if m.table.shape[1] != height * width:
        m.table = (table(height, width) * m.scale).detach()
    return m.table


def of_chance(m: Any, height: int, width: int) -> Tensor:
    if m.table.shape[1] != height * width:
        m.table = torch.rand(1, height * width, height * width)
    return m.table


def read_before(m: Any, height: int, width: int) -> Tensor:
    before = m.table.sum()
    m.table = table(height, width)
    return m.table + before


def in_one_mode(m: Any, height: int, width: int) -> Tensor:
    if m.training:
        m.table = table(height, width)
    return m.table


@pytest.mark.parametrize("bias", [of_a_parameter, of_chance, read_before, in_one_mode], ids=lambda bias: bias.__name__)
def test_what_another_call_would_not_make_again_is_no_table(bias: Callable[[Any, int, int], Tensor]) -> None:
    model = Attending(torch.zeros(1, 1, 1), bias)
    net = netslim.convert(model, IMAGES)
    assert net.plan.refusal, "it stays Python"
    if bias is not of_chance:
        compare(model, net)


def test_what_forward_appends_to_a_list_is_not_there_at_the_next_recording() -> None:
    def seen(m: Any, height: int, width: int) -> Tensor:
        m.key = m.key or []
        m.key.append(height)
        return table(height, width)

    model = Attending(None, seen)
    model.key = [0]
    net = netslim.convert(model, IMAGES)
    assert model.key == [0]
    compare(model, net)


class Frozen(dict[str, Any]):
    """A configuration that refuses to be changed, as diffusers has it."""

    def update(self, *_: object, **__: object) -> None:
        raise TypeError("frozen")


def test_a_dict_that_refuses_to_be_changed_is_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    model.config = Frozen(width=8)  # type: ignore[assignment]
    net = netslim.convert(model, torch.randn(2, 3, 8, 8))
    assert net.plan.groups
    assert model.config == {"width": 8}
