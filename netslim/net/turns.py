"""Threads that run one network: its layers are at one sub-network at a time."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

P = TypeVar("P")


class Turns(Generic[P]):
    """Threads that run at the same point run together; one that wants another point waits until they are through.

    move: brings the layers to a point; idle: where they are to be while nothing runs. `at` is where they are.
    """

    at: P

    def __init__(self, move: Callable[[P], None], idle: Callable[[], P]) -> None:
        self.move, self.idle = move, idle
        self.changed, self.running = threading.Condition(), Counter[int]()

    @contextlib.contextmanager
    def __call__(self, point: P) -> Iterator[None]:
        """Run at a point inside."""
        me = threading.get_ident()
        with self.changed:
            self.changed.wait_for(lambda: self.at == point or not self._others())
            before = self.at
            self._go(point)
            self.running[me] += 1
        try:
            yield
        finally:
            with self.changed:
                self.running[me] -= 1
                self.running += Counter()  # without those that run no more
                if not self._others():
                    self._go(before if self.running else self.idle())
                self.changed.notify_all()

    def settle(self) -> None:
        """Be where the layers are to be, unless something runs."""
        with self.changed:
            if not self.running:
                self._go(self.idle())

    def _others(self) -> bool:
        return bool(self.running.keys() - {threading.get_ident()})

    def _go(self, point: P) -> None:
        if getattr(self, "at", None) != point:
            self.at = point
            self.move(point)
