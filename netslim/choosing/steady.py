"""Times that repeat themselves on a machine that does other things too: taken in turns with those of a yardstick.

A busy machine slows down the network and the yardstick alike, so their ratio stays; multiplied by the quickest
time that the yardstick was seen to take, it is the time that the network takes when nothing else runs. Where torch has
one thread, the processor's time is taken, which is that of an idle machine even where others wait for the processor.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from netslim.choosing.latency import Run, Seconds, times_of
from netslim.ir.inputs import Inputs

Prepare = Callable[[nn.Module, Inputs], Run]
"""A call that runs a plain network once in some runtime, on one random image where it takes a batch."""

_WARM, _RUNS = 2, 3


@dataclass(frozen=True, slots=True)
class Effort:
    """first: seconds in which the yardstick shows its quickest time; then rounds, and seconds of each for either."""

    first: float
    rounds: int
    long: float


CAREFUL, QUICK = Effort(1.5, 9, 0.06), Effort(0.1, 3, 0.02)


@dataclass(frozen=True)
class Yardstick:
    """A network that others are measured beside. seconds: the quickest time that it takes."""

    run: Run
    effort: Effort = CAREFUL
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", _quickest(self.run, self.effort.first))

    def beside(self, run: Run) -> float:
        """Seconds of a call, by the median of its ratios to the yardstick, over rounds of runs of both in turns."""
        _quickest(run, 0.0)
        ratios = []
        for number in range(self.effort.rounds):
            calls = (run, self.run) if number % 2 else (self.run, run)
            taken = {call: _quickest(call, self.effort.long) for call in calls}
            ratios.append(taken[run] / taken[self.run])
        return statistics.median(ratios) * self.seconds


def steady(prepare: Prepare, full: nn.Module, inputs: Inputs) -> Seconds:
    """Measures networks beside the full one, in the runtime that `prepare` is of."""
    yardstick = Yardstick(prepare(full, inputs))
    return lambda model, given: yardstick.beside(prepare(model, given))


def _quickest(run: Run, long: float) -> float:
    """The shortest of some runs, for at least so long."""
    clock = time.process_time if torch.get_num_threads() == 1 and not torch.cuda.is_initialized() else time.perf_counter
    for _ in range(_WARM):
        run()
    return min(times_of(run, _RUNS, long, clock=clock))
