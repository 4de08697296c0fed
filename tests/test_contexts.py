"""What is switched in torch while a model is followed holds for the thread that follows it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import netslim
from netslim.trace.contexts import fast_path_off

IMAGES = torch.randn(2, 3, 8, 8)
LIMIT = 60
"""Seconds after which a thread that waits for another gives up."""


class Meeting(nn.Module):
    """Inside its forward it waits until another thread has done something."""

    def __init__(self, inside: threading.Event, go_on: threading.Event) -> None:
        super().__init__()
        self.conv, self.head, self.meet = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), Pair(inside, go_on)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.meet()
            h = self.conv(x).flatten(2).mT
        return self.head((h + self.attention(h, h, h)[0]).mean(1))


class Pair:
    def __init__(self, inside: threading.Event, go_on: threading.Event) -> None:
        self.events = inside, go_on

    def __call__(self) -> None:
        inside, go_on = self.events
        inside.set()
        assert go_on.wait(LIMIT)

    def __deepcopy__(self, memo: object) -> Pair:
        return self


class Tripled(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return 3 * gradient


def meanwhile(act: Callable[[], None]) -> netslim.SlimNet:
    """Converts a model in a thread of its own; `act` runs in this one while the model is being followed."""
    inside, go_on = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(netslim.convert, Meeting(inside, go_on), IMAGES, prove=False)
        assert inside.wait(LIMIT)
        try:
            act()
        finally:
            go_on.set()
        return found.result(LIMIT)


def test_another_thread_trains_as_ever_while_a_model_is_followed() -> None:
    def act() -> None:
        with torch.no_grad():
            assert not torch.is_grad_enabled()
            assert not nn.Linear(2, 2)(torch.ones(2)).requires_grad
        with torch.set_grad_enabled(False):
            assert not torch.is_grad_enabled()
        assert torch.is_grad_enabled()
        with torch.autocast("cpu", torch.bfloat16):
            assert nn.Linear(2, 2)(torch.ones(2)).dtype == torch.bfloat16
        assert nn.Linear(2, 2)(torch.ones(2)).requires_grad
        again = checkpoint(Tripled.apply, x := torch.ones(2, requires_grad=True), use_reentrant=True)
        checkpoint(Tripled.apply, again, use_reentrant=False).sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [9, 9]

    net = meanwhile(act)
    net.train()(IMAGES).sum().backward()
    assert net.conv.weight.grad is None  # type: ignore[union-attr]
    assert net.head.weight.grad is not None  # type: ignore[union-attr]


def test_two_models_are_followed_at_once() -> None:
    methods = torch.no_grad.__enter__, torch.autocast.__init__, nn.functional.has_torch_function
    fast = torch.backends.mha.get_fastpath_enabled()
    others: list[netslim.SlimNet] = []

    def act() -> None:
        go_on = threading.Event()
        go_on.set()
        others.append(netslim.convert(Meeting(threading.Event(), go_on), IMAGES, prove=False))

    net = meanwhile(act)
    programs = [each.plan.regions[""].programs for each in (net, *others)]
    assert programs[0] == programs[1]
    assert (torch.no_grad.__enter__, torch.autocast.__init__, nn.functional.has_torch_function) == methods
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_a_switch_is_back_when_the_last_is_out_whoever_that_is() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    first, second = fast_path_off(), fast_path_off()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.backends.mha.get_fastpath_enabled()
    second.__exit__(None, None, None)
    assert torch.backends.mha.get_fastpath_enabled() == before


class Mixed(nn.Module):
    """What is switched while a model is followed: gradients, attention, a random layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, channels, 3), nn.Linear(channels, 4)
        self.attention, self.drop = nn.MultiheadAttention(channels, 2, batch_first=True), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x).flatten(2).mT
        with torch.no_grad():
            scale = h.mean(1, keepdim=True).relu()
        return self.head(self.drop(h * scale + self.attention(h, h, h)[0]).mean(1))


def trained(steps: int = 60) -> list[Tensor]:
    """The weights of a small model after some steps on fixed images."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 8, 8, generator=generator)).square().mean().backward()
        optimizer.step()
    return list(model.parameters())


def test_threads_convert_at_the_same_time_while_another_trains() -> None:
    models = [Mixed(channels).eval() for channels in (8, 12)]
    alone, weights = [netslim.convert(model, IMAGES) for model in models], trained()
    with ThreadPoolExecutor(3) as pool:
        training = [pool.submit(trained) for _ in range(2)]
        together = [pool.submit(netslim.convert, model, IMAGES) for model in models]
        nets = [found.result(LIMIT) for found in together]
        assert all(all(map(torch.equal, found.result(LIMIT), weights)) for found in training)
    for model, net, wanted in zip(models, nets, alone, strict=True):
        assert net.plan == wanted.plan
        assert net.proof == wanted.proof
        assert torch.equal(net.eval()(IMAGES), model(IMAGES))
        with net.sub(0.5), wanted.eval().sub(0.5):
            assert torch.equal(net(IMAGES), wanted(IMAGES))


@pytest.fixture
def process_group() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_synchronised_norms_are_as_elastic_as_others_in_a_process_group(tmp_path: Path) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    net = netslim.convert(nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain)), IMAGES)
    assert [group.size for group in net.groups] == [8]
    assert not net.plan.refusal
    netslim.save(net, tmp_path / "net.pt")
    for made in (net, netslim.load(tmp_path / "net.pt")):
        torch.testing.assert_close(made.train()(IMAGES), plain.train()(IMAGES))
    with net.eval().sub(0.5):
        narrow = net(IMAGES)
    torch.testing.assert_close(net.extract(0.5)(IMAGES), narrow)
    assert torch.distributed.is_initialized()


@pytest.mark.usefixtures("process_group")
def test_the_process_group_is_there_for_other_threads_while_a_model_is_followed() -> None:
    seen: list[bool] = []
    meanwhile(lambda: seen.append(torch.distributed.is_initialized()))
    assert seen == [True]
