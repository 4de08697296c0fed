"""How long a plain network takes for one input on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from netslim.ir.inputs import Inputs, drawn, of_one

Seconds = Callable[[nn.Module, Inputs], float]
"""Measures a plain network, given the inputs of the network that it was cut from."""

_WARM, _FEWEST, _MOST = 3, 11, 200  # runs
_LONG = 0.3  # seconds of running


def torch_seconds(model: nn.Module, inputs: Inputs) -> float:
    """The median of some runs in eval mode in torch, with as many threads as torch takes; `model` is left in it.

    The input is random, for one image where the network takes a batch, and where the model is.
    """
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    given = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in drawn(of_one(inputs), torch.Generator().manual_seed(0)).items()
    }
    model.eval()

    def run() -> None:
        model(**given)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with torch.inference_mode():
        return median_seconds(run)


def median_seconds(run: Callable[[], object]) -> float:
    """The median of the times that calls take, after some to warm up."""
    for _ in range(_WARM):
        run()
    times: list[float] = []
    while len(times) < _FEWEST or (sum(times) < _LONG and len(times) < _MOST):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
