"""SIGTERM, as schedulers and torchrun send it, is a wish to stop: the step in hand is finished and kept."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM has come; the former handler is put back at the end.

    A second SIGTERM ends the process as usual. Outside the main thread, where Python allows no handlers, none comes.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(number: int, _: Any) -> None:
        if asked.is_set():
            raise SystemExit(128 + number)
        asked.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
