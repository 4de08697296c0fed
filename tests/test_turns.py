"""Threads that use one converted network: each runs at the widths that it has opened itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.errors import InputError
from netslim.net.tree import is_slim

IMAGES = torch.randn(2, 3, 8, 8)
LIMIT = 60
"""Seconds after which a thread that waits for another gives up."""


class Parts(nn.Module):
    """Reads a value, so that its forward stays Python and its body is a region."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x).mean((2, 3))
        return self.head(h if float(h.detach().sum()) < 1e6 else -h)


def whole() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4)
    )


@pytest.fixture(params=[whole, Parts], ids=["whole", "in parts"])
def net(request: pytest.FixtureRequest) -> netslim.SlimNet:
    torch.manual_seed(0)
    made: Callable[[], nn.Module] = request.param
    return netslim.convert(made(), IMAGES, prove=False).eval()


def outputs(net: netslim.SlimNet) -> Tensor:
    with torch.no_grad():
        return net(IMAGES)  # type: ignore[no-any-return]


def as_it_was(net: netslim.SlimNet) -> bool:
    return all(layer.kept is None for layer in net.modules() if is_slim(layer))


def test_the_width_of_another_thread_is_not_seen(net: netslim.SlimNet) -> None:
    full, opened, close = outputs(net), threading.Event(), threading.Event()

    def other() -> Tensor:
        with net.sub(0.5):
            opened.set()
            assert close.wait(LIMIT)
            return outputs(net)

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(other)
        assert opened.wait(LIMIT)
        try:
            meanwhile = outputs(net)
            with net.sub(0.25):
                quarter = outputs(net)
        finally:
            close.set()
        half = found.result(LIMIT)
    assert torch.equal(meanwhile, full)
    assert as_it_was(net)
    for width, seen in ((0.5, half), (0.25, quarter), (1.0, full)):
        with net.sub(width):
            assert torch.equal(outputs(net), seen)


def test_many_threads_at_many_widths_get_their_own_results(net: netslim.SlimNet) -> None:
    widths = [0.25, 0.5, 0.75, 1.0]
    wanted = []
    for width in widths:
        with net.sub(width):
            wanted.append(outputs(net))

    def run(i: int) -> bool:
        with net.sub(widths[i % 4]):
            return all(torch.equal(outputs(net), wanted[i % 4]) for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(32), timeout=LIMIT))
    assert as_it_was(net)


def test_contexts_of_threads_close_in_any_order(net: netslim.SlimNet) -> None:
    full, mine = outputs(net), net.sub(0.5)
    with ThreadPoolExecutor(1) as pool:
        mine.__enter__()
        theirs = net.sub(0.25)
        pool.submit(theirs.__enter__).result(LIMIT)
        mine.__exit__(None, None, None)
        assert torch.equal(outputs(net), full)
        pool.submit(theirs.__exit__, None, None, None).result(LIMIT)
    assert torch.equal(outputs(net), full)
    assert as_it_was(net)


def test_an_error_in_a_forward_lets_others_run(net: netslim.SlimNet) -> None:
    full = outputs(net)

    def other() -> None:
        with net.sub(0.5), pytest.raises(InputError):
            net(torch.randn(2, 5, 8, 8))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(other).result(LIMIT)
    assert torch.equal(outputs(net), full)
    assert as_it_was(net)


def test_a_forward_within_a_forward_may_be_narrower(net: netslim.SlimNet) -> None:
    full, inner = outputs(net), list[Tensor]()
    with net.sub(0.5):
        half = outputs(net)

    def hook(*_: object) -> None:
        handle.remove()
        with net.sub(0.5):
            inner.append(outputs(net))

    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    handle = first.register_forward_hook(hook)
    assert torch.equal(outputs(net), full)
    assert torch.equal(inner[0], half)
