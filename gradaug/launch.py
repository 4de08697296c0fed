"""Starts one process per GPU through torchrun's own launcher: ``gradaug train --gpus N ...``.

Several machines: ``torchrun --nnodes ... --nproc-per-node N -m gradaug train ...`` on each of them.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gradaug.errors import Stopped, TrainingError


def launch(processes: int, arguments: Sequence[str], max_restarts: int = 0) -> None:
    """Runs ``python -m gradaug *arguments`` in so many processes of one run, and waits for them.

    When one dies the others are ended, and all are started again up to `max_restarts` times; they resume by themselves.

    Raises:
        TrainingError: a process failed for good; its own message has been printed.
        Stopped: SIGTERM came and was passed on.
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
        elastic_launch(config, sys.executable)("-m", "gradaug", *arguments)
    except ChildFailedError as error:
        rank, failure = _cause(error)
        how = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        if failure.exitcode == Stopped.exit_code:
            raise Stopped("stopped by SIGTERM; go on with --resume") from error
        raise TrainingError(f"process {rank} of {processes} ended with {how}; its message stands above") from error
    except SignalException as error:
        raise Stopped("stopped by a signal; go on with --resume") from error


def _cause(error: ChildFailedError) -> tuple[int, ProcessFailure]:
    """The process that failed first: where one was killed, it and not those that missed it or were ended after it."""
    after = (-signal.SIGABRT, -signal.SIGTERM)

    def order(item: tuple[int, ProcessFailure]) -> tuple[int, int, int]:
        rank, failure = item
        code = failure.exitcode
        return (0 if code < 0 and code not in after else 1, failure.timestamp, rank)

    return min(error.failures.items(), key=order)
