"""Times of networks on a machine that is not idle."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from netslim.choosing import steady
from netslim.choosing.latency import torch_run
from netslim.choosing.steady import Effort, Yardstick
from netslim.ir.inputs import Input

EFFORT = Effort(0.0, 7, 0.0)


@pytest.mark.parametrize("slower", [(1, 1), (1, 3, 2), (1, 1, 9, 1)])
def test_what_slows_down_both_networks_leaves_the_time_as_it_is(
    slower: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes slower for some rounds, in which the yardstick and the network are one after the other."""
    moment = itertools.chain([1, 1], itertools.cycle([each for each in slower for _ in range(2)]))
    times = {full: 8.0, half: 4.0}
    monkeypatch.setattr(steady, "_quickest", lambda run, _: times[run] * next(moment))
    yardstick = Yardstick(full, EFFORT)
    assert yardstick.seconds == 8
    assert yardstick.beside(half) == 4


def test_one_round_that_goes_wrong_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = ([8.0, 40.0], [4.0, 8.0], [8.0, 4.0], [4.0, 8.0], [8.0, 4.0], [4.0, 8.0], [8.0, 4.0])
    times = iter([8.0, 4.0, *itertools.chain(*rounds)])
    monkeypatch.setattr(steady, "_quickest", lambda *_: next(times))
    assert Yardstick(full, EFFORT).beside(half) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_run_has_so_many_images_of_the_networks_precision_under_any_name(dtype: torch.dtype) -> None:
    seen: list[tuple[tuple[int, ...], torch.dtype, bool]] = []

    class Noted(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((tuple(x.shape), x.dtype, torch.is_grad_enabled() or self.training))
            return super().forward(x)

    torch_run(Noted(3, 2).to(dtype), {"x": Input((2, 3))}, 5)()
    torch_run(Noted(3, 2).to(dtype), {"len": Input((2, 3))})()
    assert seen == [((5, 3), dtype, False), ((1, 3), dtype, False)]


def full() -> None:
    """The yardstick."""


def half() -> None:
    """A network that takes half the time."""
