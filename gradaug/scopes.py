"""What is put back after a while: modes of modules, and the global random generators.

`evaluating` leaves a batch norm that somebody froze as it was. Library transforms draw from a generator that all share:
in `drawn_from` they draw what a seed says, and leave it as it was. A checkpoint holds the states of generators.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def evaluating(net: nn.Module) -> contextlib.AbstractContextManager[None]:
    """`net` in eval mode inside the block."""
    return in_mode(net, False)


@contextlib.contextmanager
def in_mode(net: nn.Module, training: bool) -> Iterator[None]:
    """`net` in training mode, or in eval mode, inside the block."""
    modes = {module: module.training for module in net.modules()}
    net.train(training)
    try:
        yield
    finally:
        for module, before in modes.items():
            module.training = before


@contextlib.contextmanager
def drawn_from(device: torch.device, seed: int) -> Iterator[None]:
    """Inside, the global generators of the CPU, of `device` and of Python start from `seed`; then they are put back."""
    devices, python = [device] if device.type == "cuda" else [], random.getstate()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            yield
    finally:
        random.setstate(python)


def fresh_autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[object]:
    """Autocast to `dtype`, or whatever the caller has around this; without casts from before.

    These hold the graph of a pass, or weights before an update.
    """
    torch.clear_autocast_cache()
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@dataclass(frozen=True)
class Generators:
    """States of the global random generators of one process: torch's, Python's, and one for each GPU."""

    torch: Tensor
    python: tuple[int, tuple[int, ...], float | None]
    cuda: tuple[Tensor, ...] = ()


def random_state() -> Generators:
    """The states of the global generators that a model may draw from (dropout, a transform of the user's)."""
    cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else ()
    version, internal, gauss = random.getstate()
    return Generators(torch.get_rng_state(), (version, internal, gauss), cuda)


def set_random_state(state: Generators) -> None:
    """Puts :func:`random_state` back; CUDA's only on a machine with as many GPUs."""
    torch.set_rng_state(state.torch)
    random.setstate(state.python)
    if state.cuda and torch.cuda.is_available() and len(state.cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(list(state.cuda))
