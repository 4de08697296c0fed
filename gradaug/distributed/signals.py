"""Who may end a process of a run, and how.

SIGTERM, as schedulers and torchrun send it, is a wish to stop: the step in hand is finished and kept. A process that
``gradaug train --gpus`` started ends with its launcher, whatever ended that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

LAUNCHER = "GRADAUG_LAUNCHER"
"""Environment variable with the process id of the launcher, for the processes it starts."""
INTERVAL = 0.5
"""Seconds between two looks at whether the launcher is still there."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM has come; the former handler is put back at the end.

    A second SIGTERM ends the process as usual. Outside the main thread, where Python allows no handlers, none comes.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(number: int, _: FrameType | None) -> None:
        if asked.is_set():
            raise SystemExit(128 + number)
        asked.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def follow_launcher() -> None:
    """Called first in a process: where a launcher started it, it ends when the launcher does, and at once on SIGINT.

    The launcher passes Ctrl-C on and speaks for all. Its death is seen by looking: the parent of a process whose own
    has ended is another. The process is then killed, in the middle of what it does; a checkpoint is always whole.
    """
    launcher = os.environ.pop(LAUNCHER, "")  # programs that this process starts have another parent
    if not launcher.isdigit():
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_after, args=(int(launcher),), daemon=True, name="launcher").start()


def _end_after(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(INTERVAL)
    os.kill(os.getpid(), signal.SIGKILL)
