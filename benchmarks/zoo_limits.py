"""Jobs in forked processes with a time and a memory limit, so that one bad model costs one row and not the run.

A job calls `send(fields)` after each of its stages; what it has sent survives whatever ends it. Time is processor time:
a job runs on one thread, and what else the machine does is not its fault.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

Fields = dict[str, Any]
Send = Callable[[Fields], None]
Job = Callable[[Send], None]
Name = TypeVar("Name")

PATIENCE = 10
"""A job that sleeps, or shares its processor with many, is stopped after so many times its processor time."""

_FORK = multiprocessing.get_context("fork")  # the child finds torch imported


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may use: processor seconds and memory."""

    seconds: float
    gib: float


class TimeLimit(BaseException):
    """The job has used up its processor time. Not an Exception: nothing that the job calls may take it for its own."""


@dataclass
class _Running(Generic[Name]):
    name: Name
    process: Any
    reader: Connection
    deadline: float
    start: float
    fields: Fields = field(default_factory=dict)


def run_limited(jobs: Iterable[tuple[Name, Job]], limits: Limits, workers: int = 1) -> Iterator[tuple[Name, Fields]]:
    """Yields (name, what the job sent) as the jobs end; `failure` says why one ended early, `wall_s` how long it took.

    Jobs are started in order, `workers` at a time. Children still running are killed when the iteration is given up.
    """
    waiting, running = iter(jobs), dict[Name, _Running[Name]]()
    try:
        while True:
            while len(running) < workers and (job := next(waiting, None)) is not None:
                running[job[0]] = _start(*job, limits)
            if not running:
                return
            next_deadline = min(r.deadline for r in running.values())
            wait([r.reader for r in running.values()], max(0.0, next_deadline - time.monotonic()))
            for one in list(running.values()):
                if _ended(one, limits):
                    del running[one.name]
                    yield one.name, one.fields | {"wall_s": time.monotonic() - one.start}
    finally:
        for one in running.values():
            _stop(one)


def _start(name: Name, job: Job, limits: Limits) -> _Running[Name]:
    reader, writer = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_child, args=(job, writer, reader, limits), daemon=True)
    start = time.monotonic()
    process.start()
    writer.close()
    return _Running(name, process, reader, start + PATIENCE * limits.seconds, start)


def _ended(one: _Running[Any], limits: Limits) -> bool:
    """Takes in what has arrived; whether the child is done, was stopped, or died."""
    with contextlib.suppress(EOFError, OSError):
        while one.reader.poll():
            one.fields |= one.reader.recv()
            if one.fields.get("done"):
                _stop(one, seconds=5.0)
                return True
        if time.monotonic() < one.deadline:
            return False
        _stop(one)
        one.fields["failure"] = f"TimeLimit: still running after {PATIENCE * limits.seconds:.0f} s"
        return True
    one.process.join()
    one.fields["failure"] = f"Died: {_cause(one.process.exitcode)}"
    return True


def _cause(exitcode: int | None) -> str:
    """SIGKILL comes from the system's own memory guard, or from the hard limit of processor time."""
    return signal.Signals(-exitcode).name if exitcode and exitcode < 0 else f"exit code {exitcode}"


def _stop(one: _Running[Any], seconds: float = 0.0) -> None:
    one.process.join(seconds)
    one.process.kill()
    one.process.join()
    one.reader.close()


def _child(job: Job, writer: Connection, reader: Connection, limits: Limits) -> None:
    """The forked process: limits, no output of its own, and every exception told as a failure."""
    reader.close()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        _limit(limits)
        job(writer.send)
    except BaseException as error:
        writer.send(told(error))
    finally:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        writer.send({"done": True, "cpu_s": time.process_time(), "peak_gib": _peak()})
        writer.close()


def _limit(limits: Limits) -> None:
    size, seconds = int(limits.gib * 2**30), int(limits.seconds)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        raise TimeLimit(f"stopped after {seconds} s")

    signal.signal(signal.SIGXCPU, stop)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 30))


def told(error: BaseException) -> Fields:
    """The failure as a class with its first line, and the place where it was raised."""
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MemoryError) or "can't allocate memory" in first:
        first = "more memory than the limit"
        return {"failure": f"MemoryLimit: {first}", "raised_at": _place(error)}
    first = re.sub(r"\S*/site-packages/", "", first)  # where a library is installed is nobody's business
    return {"failure": f"{type(error).__name__}: {first}"[:400], "raised_at": _place(error)}


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))


def _peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
