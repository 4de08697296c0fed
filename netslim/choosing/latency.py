"""How long a plain network takes for one input on this machine."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from netslim.ir.inputs import Inputs, drawn, of_many, to_call

Run = Callable[[], object]
"""Runs a network once."""
Seconds = Callable[[nn.Module, Inputs], float]
"""Measures a plain network, given the inputs of the network that it was cut from."""

_WARM, _FEWEST, _MOST = 3, 11, 200  # runs
_LONG = 0.3  # seconds of running
ROUNDS = 6
_IN_A_ROUND = 2, 0.05, 40  # the fewest runs, seconds, the most runs


@contextlib.contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """So many threads of torch's for what runs inside, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torch_seconds(model: nn.Module, inputs: Inputs) -> float:
    """The median of some runs in eval mode in torch, with as many threads as torch takes; `model` is left in it.

    The input is random, for one image where the network takes a batch, and where the model is.
    """
    return median_seconds(torch_run(model, inputs))


def torch_run(model: nn.Module, inputs: Inputs, images: int = 1) -> Run:
    """A call that runs the model once, in eval mode, on a random batch of so many images, until its result is there.

    Where the network takes no batch, it is the example's images. It runs where the model is, in the model's precision,
    and without gradients. `model` is left in eval mode.
    """
    like = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), None)
    device, dtype = (torch.device("cpu"), None) if like is None else (like.device, like.dtype)
    made = drawn(of_many(images, inputs), torch.Generator().manual_seed(0), dtype)
    given = tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), made)
    args, kwargs = to_call(model, given)
    model.eval()

    def run() -> None:
        with torch.inference_mode():
            model(*args, **kwargs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def median_seconds(run: Run) -> float:
    """The median of the times that calls take, after some to warm up."""
    for _ in range(_WARM):
        run()
    return statistics.median(times_of(run, _FEWEST, _LONG, _MOST))


def seconds_in_turns(runs: Sequence[Run], progress: Callable[[float], None] = lambda _done: None) -> list[float]:
    """The median of the times that each of several calls takes, all of them taken in turns.

    Every round goes through all of them, forwards and backwards by turns, so that whatever else the machine does, and
    how warm it is, falls on all alike. Each warms up anew before its runs of a round. `progress` is called with the
    fraction that is done.
    """
    times: list[list[float]] = [[] for _ in runs]
    for number in range(ROUNDS):
        order = range(len(runs)) if number % 2 == 0 else reversed(range(len(runs)))
        for done, i in enumerate(order):
            runs[i]()
            times[i] += times_of(runs[i], *_IN_A_ROUND)
            progress((number + (done + 1) / len(runs)) / ROUNDS)
    return [statistics.median(each) for each in times]


def times_of(
    run: Run, fewest: int, long: float, most: float = math.inf, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds of at least `fewest` runs, and more until they take `long` seconds together or are `most`."""
    times: list[float] = []
    while len(times) < fewest or (sum(times) < long and len(times) < most):
        began = clock()
        run()
        times.append(clock() - began)
    return times
