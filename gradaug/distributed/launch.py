"""Starts one process per GPU through torchrun's own launcher: ``gradaug train --gpus N ...``.

Several machines: ``torchrun --nnodes ... --nproc-per-node N -m gradaug train ...`` on each of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gradaug.distributed.signals import LAUNCHER
from gradaug.errors import Stopped, TrainingError

PIPE_CLOSED = 128 + 13
"""Exit code of a process whose output nobody reads any more."""


def launch(processes: int, arguments: Sequence[str], max_restarts: int = 0) -> None:
    """Runs ``python -m gradaug *arguments`` in so many processes of one run, and waits for them.

    When one dies the others are ended, and all are started again up to `max_restarts` times; they resume by themselves.
    They end with this process, even where it is killed.

    Raises:
        TrainingError: a process failed for good; its own message has been printed.
        Stopped: SIGTERM, or another signal that ends programs, came and was passed on.
        KeyboardInterrupt: SIGINT (Ctrl-C) came; the processes are gone.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="gradaug",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=max_restarts,
        monitor_interval=0.5,
    )
    try:
        with _launching():
            elastic_launch(config, sys.executable)("-m", "gradaug", *arguments)
    except ChildFailedError as error:
        rank, failure = _cause(error)
        number = _signal_of(failure.exitcode)
        if number == PIPE_CLOSED - 128:
            raise SystemExit(PIPE_CLOSED) from error
        if number in (signal.SIGINT, signal.SIGTERM):
            raise _stopped(number) from error
        how = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        raise TrainingError(f"process {rank} of {processes} ended with {how}; its message stands above") from error
    except SignalException as error:
        raise _stopped(error.sigval) from error


def _cause(error: ChildFailedError) -> tuple[int, ProcessFailure]:
    """The process that failed first: where one was killed, it and not those that missed it or were ended after it.

    Times are whole seconds: of several in one second, one that stopped because it was told to comes last.
    """
    after = (-signal.SIGABRT, -signal.SIGTERM)
    told = (-signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT)

    def order(item: tuple[int, ProcessFailure]) -> tuple[int, int, bool, int]:
        rank, failure = item
        code = failure.exitcode
        return (0 if code < 0 and code not in after else 1, failure.timestamp, code in told, rank)

    return min(error.failures.items(), key=order)


def _signal_of(code: int) -> int:
    """The signal that an exit code stands for, of a shell (128 + n) or of Python (-n)."""
    return -code if code < 0 else code - 128


def _stopped(number: int) -> BaseException:
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return Stopped(f"stopped by {signal.Signals(number).name}; go on with --resume", number)


@contextlib.contextmanager
def _launching() -> Iterator[None]:
    """The processes learn who started them; the log of torch's launcher, which repeats what is said here, is quiet."""
    log, quiet = logging.getLogger("torch.distributed.elastic"), logging.NullHandler()
    before = log.propagate
    log.propagate = False
    log.addHandler(quiet)
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[LAUNCHER]
        log.removeHandler(quiet)
        log.propagate = before
