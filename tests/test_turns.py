"""Threads that use one converted network: each runs at the widths, and with the functions, that it has opened."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.errors import InputError
from netslim.net.runtime import runtime
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


class Residual(nn.Module):
    """A block that can be followed by something."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inside = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.stem(x)
        return h + self.inside(h.relu())


class ResidualParts(Parts):
    """The same in a region."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Residual(), nn.ReLU())


def whole_residual() -> nn.Module:
    return nn.Sequential(Residual(), nn.Flatten(), nn.Linear(288, 4))


@pytest.fixture(params=[whole_residual, ResidualParts], ids=["whole", "in parts"])
def residual(request: pytest.FixtureRequest) -> netslim.SlimNet:
    torch.manual_seed(0)
    made: Callable[[], nn.Module] = request.param
    net = netslim.convert(made(), IMAGES, prove=False).eval()
    assert len(net.blocks) == 1
    return net


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


@contextlib.contextmanager
def in_another_thread(net: netslim.SlimNet, context: AbstractContextManager[object]) -> Iterator[Future[Tensor]]:
    """Another thread has opened a context; what the network gives there is known at the end."""
    opened, close = threading.Event(), threading.Event()

    def other() -> Tensor:
        with context:
            opened.set()
            assert close.wait(LIMIT)
            return outputs(net)

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(other)
        assert opened.wait(LIMIT)
        try:
            yield found
        finally:
            close.set()


def test_the_width_of_another_thread_is_not_seen(net: netslim.SlimNet) -> None:
    full = outputs(net)
    with in_another_thread(net, net.sub(0.5)) as found:
        meanwhile = outputs(net)
        with net.sub(0.25):
            quarter = outputs(net)
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


def factor(net: netslim.SlimNet, by: float) -> AbstractContextManager[object]:
    return net.scaled({net.blocks[0].name: by})


def function(net: netslim.SlimNet, by: float) -> AbstractContextManager[object]:
    return net.through({net.blocks[0].name: lambda x: by * x})


FOLLOWING = {"scaled": factor, "through": function}
Following = Callable[[netslim.SlimNet, float], AbstractContextManager[object]]


def seen(net: netslim.SlimNet, *contexts: AbstractContextManager[object]) -> Tensor:
    with contextlib.ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        return outputs(net)


@pytest.mark.parametrize("follow", FOLLOWING.values(), ids=FOLLOWING)
def test_what_another_thread_has_follow_a_block_is_not_seen(residual: netslim.SlimNet, follow: Following) -> None:
    net = residual
    wanted = [seen(net, follow(net, by)) for by in (1.0, 2.0, 3.0)]
    assert not torch.equal(wanted[0], wanted[1])
    with in_another_thread(net, follow(net, 2.0)) as found:
        meanwhile, mine = outputs(net), seen(net, follow(net, 3.0))
        narrow = seen(net, net.sub(0.5))
    theirs = found.result(LIMIT)
    assert torch.equal(meanwhile, wanted[0])
    assert torch.equal(theirs, wanted[1])
    assert torch.equal(mine, wanted[2])
    assert torch.equal(narrow, seen(net, net.sub(0.5)))
    assert not runtime(net).functions


@pytest.mark.parametrize("follow", FOLLOWING.values(), ids=FOLLOWING)
def test_many_threads_have_many_things_follow_at_many_widths(residual: netslim.SlimNet, follow: Following) -> None:
    net, settings = residual, [(by, width) for by in (0.0, 0.5, 2.0) for width in (0.5, 1.0)]
    wanted = [seen(net, follow(net, by), net.sub(width)) for by, width in settings]

    def run(i: int) -> bool:
        by, width = settings[i % 6]
        first, second = (follow(net, by), net.sub(width))[:: 1 if i % 4 else -1]
        with first, second:
            return all(torch.equal(outputs(net), wanted[i % 6]) for _ in range(5))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(run, range(24), timeout=LIMIT))
    assert as_it_was(net)
    assert torch.equal(outputs(net), seen(net, follow(net, 1.0)))


@pytest.mark.parametrize("follow", FOLLOWING.values(), ids=FOLLOWING)
def test_what_follows_closes_in_any_order_and_in_any_thread(residual: netslim.SlimNet, follow: Following) -> None:
    net = residual
    full, twice, six = (seen(net, follow(net, by)) for by in (1.0, 2.0, 6.0))
    mine, more, theirs = follow(net, 2.0), follow(net, 3.0), follow(net, 5.0)
    with ThreadPoolExecutor(1) as pool:
        mine.__enter__()
        pool.submit(theirs.__enter__).result(LIMIT)
        more.__enter__()
        torch.testing.assert_close(outputs(net), six)
        pool.submit(more.__exit__, None, None, None).result(LIMIT)  # as a generator does that is collected elsewhere
        assert torch.equal(outputs(net), twice)
        mine.__exit__(None, None, None)
        assert torch.equal(outputs(net), full)
        five = pool.submit(outputs, net).result(LIMIT)
        pool.submit(theirs.__exit__, None, None, None).result(LIMIT)
        assert torch.equal(pool.submit(outputs, net).result(LIMIT), full)
    assert torch.equal(five, seen(net, follow(net, 5.0)))
    assert torch.equal(outputs(net), full)
    assert not runtime(net).functions


def test_a_part_called_by_itself_has_what_its_thread_opened() -> None:
    net, images = netslim.convert(ResidualParts(), IMAGES, prove=False).eval(), torch.randn(1, 3, 8, 8)
    with torch.no_grad(), factor(net, 0.0):
        without = net.get_submodule("body")(images)
    with torch.no_grad():
        torch.testing.assert_close(without, net.get_submodule("body.0.stem")(images).relu())
        assert not torch.equal(net.get_submodule("body")(images), without)
