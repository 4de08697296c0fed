"""How long a plain network takes for one input on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from netslim.ir.inputs import Inputs, drawn, of_many

Seconds = Callable[[nn.Module, Inputs], float]
"""Measures a plain network, given the inputs of the network that it was cut from."""

_WARM, _FEWEST, _MOST = 3, 11, 200  # runs
_LONG = 0.3  # seconds of running
ROUNDS = 6
_IN_A_ROUND = 2, 40, 0.05  # the fewest runs, the most, seconds


def torch_seconds(model: nn.Module, inputs: Inputs) -> float:
    """The median of some runs in eval mode in torch, with as many threads as torch takes; `model` is left in it.

    The input is random, for one image where the network takes a batch, and where the model is.
    """
    with torch.inference_mode():
        return median_seconds(timed(model, inputs))


def timed(model: nn.Module, inputs: Inputs, images: int = 1) -> Callable[[], None]:
    """A call that runs the model once, in eval mode, on a random batch of so many images, until its result is there.

    Where the network takes no batch, it is the example's images. `model` is left in eval mode.
    """
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    given = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in drawn(of_many(images, inputs), torch.Generator().manual_seed(0)).items()
    }
    model.eval()

    def run() -> None:
        model(**given)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def median_seconds(run: Callable[[], object]) -> float:
    """The median of the times that calls take, after some to warm up."""
    for _ in range(_WARM):
        run()
    return statistics.median(_times(run, _FEWEST, _MOST, _LONG))


def seconds_in_turns(
    runs: Sequence[Callable[[], object]], progress: Callable[[float], None] = lambda _done: None
) -> list[float]:
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
            times[i] += _times(runs[i], *_IN_A_ROUND)
            progress((number + (done + 1) / len(runs)) / ROUNDS)
    return [statistics.median(each) for each in times]


def _times(run: Callable[[], object], fewest: int, most: int, long: float) -> list[float]:
    """Of at least `fewest` runs, and more until they take `long` seconds or are `most`."""
    times: list[float] = []
    while len(times) < fewest or (sum(times) < long and len(times) < most):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times
