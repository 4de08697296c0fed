"""What stops a proof without saying anything of the network comes out as itself, and freezes nothing."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.errors import is_interruption
from netslim.net.slimnet import SlimNet
from netslim.proof import equivalence, harness, idle, masked, no_randomness
from netslim.proof.blame import called


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.stem(x).relu().mean((2, 3))))


IMAGES = torch.zeros(2, 3, 8, 8)


class Alarm(Exception):
    """What somebody's handler of a signal raises."""


def ring(*_: object) -> None:
    raise Alarm("took too long")


@pytest.fixture
def alarms() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.signal(signal.SIGALRM, before)


def failing(error: BaseException | Callable[[], object]) -> Callable[..., Any]:
    def run(*_: object, **__: object) -> object:
        if isinstance(error, BaseException):
            raise error
        return error()

    return run


STOPS: dict[str, tuple[BaseException | Callable[[], object], type[BaseException]]] = {
    "memory": (MemoryError(), MemoryError),
    "memory of an accelerator": (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
    "memory of torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), RuntimeError),
    "an interrupt": (KeyboardInterrupt(), KeyboardInterrupt),
    "a timeout": (TimeoutError(), TimeoutError),
    "an alarm": (lambda: signal.raise_signal(signal.SIGALRM), Alarm),
}


@pytest.mark.usefixtures("alarms")
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("prove", [netslim.verify, lambda _net: netslim.convert(Small(), IMAGES)])
def test_what_stops_a_network_from_outside_is_reported(
    stop: str, prove: Callable[[SlimNet], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = netslim.convert(Small(), IMAGES, prove=False)
    error, kind = STOPS[stop]
    monkeypatch.setattr(SlimNet, "forward", failing(error))
    with pytest.raises(kind):
        prove(net)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (no_randomness.NoRandomness, "__torch_dispatch__"),
        (masked.MaskedEngine, "_redo"),
        (masked, "_zeros"),
        (equivalence, "_farthest"),
        (harness, "randomize"),
        (idle, "_touched"),
    ],
)
@pytest.mark.parametrize("kind", [RuntimeError, IndexError])
def test_a_bug_in_the_proof_is_reported(
    place: object, name: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    raising = {"kind": kind}
    exec(compile("def bug(*_, **__): raise kind('planted')", harness.__file__, "exec"), raising)
    monkeypatch.setattr(place, name, raising["bug"])
    with pytest.raises(kind, match="planted"):
        netslim.convert(Small(), IMAGES)
    with pytest.raises(kind, match="planted"):
        netslim.verify(netslim.convert(Small(), IMAGES, prove=False))


def test_a_sub_network_that_does_not_run_is_the_networks_failure() -> None:
    net = netslim.convert(Small(), IMAGES, prove=False)

    def fails(_module: nn.Module, args: tuple[Tensor]) -> None:
        if args[0].shape[1] < 8:
            torch.zeros(2) + torch.zeros(3)

    net.get_submodule("norm").register_forward_pre_hook(fails)
    found = netslim.verify(net)
    assert not found.passed
    assert "does not run: RuntimeError" in found.failures[0]


def test_memory_that_runs_out_while_a_forward_is_followed_is_no_reason_to_follow_it_in_parts() -> None:
    class Hungry(Small):
        def forward(self, x: Tensor) -> Tensor:
            raise MemoryError

    with pytest.raises(MemoryError):
        netslim.convert(Hungry(), IMAGES)


class Handler:
    def method(self, *_: object) -> None:
        raise Alarm

    def __call__(self, *_: object) -> None:
        raise Alarm


@pytest.mark.parametrize("handler", [Handler().method, Handler(), functools.partial(Handler().method, 1)])
def test_any_kind_of_handler_is_known(handler: Callable[..., None]) -> None:
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(Alarm) as caught:
            called(signal.raise_signal, signal.SIGALRM)
        assert is_interruption(caught.value)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not is_interruption(RuntimeError("shape mismatch"))


def test_a_cause_counts() -> None:
    error = ValueError("wrapped")
    error.__cause__ = MemoryError()
    assert is_interruption(error)
