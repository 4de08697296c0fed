"""Python runs this first where the folder is on PYTHONPATH: one rank of a run meets a fault at a chosen step, once.

FAULT is "ACTION RANK STEP FILE"; the file says that it has happened, so that the run which goes on is left alone.
"""

import os
import signal
import time
from pathlib import Path

_WHAT = os.environ.get("FAULT", "").split(maxsplit=3)
_PATIENCE = 6000
"""Hundredths of a second to wait for a signal that is on its way."""


def _arm(action: str, step: int, happened: Path) -> None:
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == step and not happened.exists():
            happened.touch()
            _kill() if action == "kill" else _terminate_launcher()

    register_optimizer_step_pre_hook(count)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _terminate_launcher() -> None:
    """Goes on when the launcher has passed the signal on to this process."""
    handler, came = signal.getsignal(signal.SIGTERM), []

    def note(*arguments: object) -> None:
        came.append(arguments)
        handler(*arguments)

    signal.signal(signal.SIGTERM, note)
    os.kill(os.getppid(), signal.SIGTERM)
    for _ in range(_PATIENCE):
        if came:
            break
        time.sleep(0.01)
    signal.signal(signal.SIGTERM, handler)


if _WHAT and os.environ.get("RANK") == _WHAT[1]:
    _arm(_WHAT[0], int(_WHAT[2]), Path(_WHAT[3]))
