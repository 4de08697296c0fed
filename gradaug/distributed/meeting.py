"""Processes of one start find each other, and nobody of an earlier start, in a store that may have outlived it.

torchrun starts processes again after a failure (--max-restarts), and its store can still hold what those before them
wrote: addresses of processes that are gone. On several machines no number in the environment is the same everywhere.
So rank 0 calls, all others answer that call with a name of their own, and whoever reads its own name among the answers
has met the others. A call that nobody ends, since its rank 0 is gone, is followed by the next one.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from dataclasses import dataclass

import torch.distributed as dist

_POLL = 0.05
"""Seconds between two looks at the store."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """One start of a run's processes."""

    store: dist.Store
    """Theirs alone."""
    again: bool
    """Whether torchrun has started one of them again after a failure."""


def starts() -> int:
    """How often torchrun has started this process again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def meet(store: dist.Store, rank: int, size: int, patience: float) -> Meeting:
    """The processes `rank` of `size` that are there now. RuntimeError where they are not within `patience` seconds."""
    while isinstance(store, dist.PrefixStore):  # named by how often this machine has started its processes
        store = store.underlying_store
    ours = dist.PrefixStore("gradaug", store)
    me = f"{uuid.uuid4().hex} {starts()}"
    number, answers = _call(ours, me, size, patience) if rank == 0 else _answer(ours, me, rank, patience)
    again = number > 1 or any(int(answer.split()[1]) for answer in answers)
    return Meeting(dist.PrefixStore(f"gradaug {number}", store), again)


def _call(store: dist.Store, me: str, size: int, patience: float) -> tuple[int, list[str]]:
    number = store.add("calls", 1)
    until = time.monotonic() + patience
    keys = [f"{number}/{rank}" for rank in range(1, size)]
    while not all(store.check([key]) for key in keys):
        _pause(until, patience)
    answers = [me, *(store.get(key).decode() for key in keys)]
    store.set(f"{number}/met", json.dumps(answers))
    return number, answers


def _answer(store: dist.Store, me: str, rank: int, patience: float) -> tuple[int, list[str]]:
    answered, until = 0, time.monotonic() + patience
    while True:
        number = store.add("calls", 0)
        if number > answered:
            store.set(f"{number}/{rank}", me)
            answered = number
        elif number and store.check([f"{number}/met"]):
            answers = json.loads(store.get(f"{number}/met"))
            if me in answers:
                return number, answers
        _pause(until, patience)


def _pause(until: float, patience: float) -> None:
    if time.monotonic() > until:
        raise dist.DistStoreError(f"Timed out after waiting {1000 * patience:.0f}ms for all processes to start")
    time.sleep(_POLL)
