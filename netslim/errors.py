"""Every error a user can meet, in one tree.

    NetslimError                    exit code 1: the message says what is wrong and what to do
    ├── SourceError                 the model could not be found, imported or built
    ├── InputError                  the example inputs or an option do not fit the model
    ├── TraceError                  the model's forward failed or cannot be followed
    ├── SubnetError                 a width, group or block that this network does not have
    ├── PlanError                   a plan does not fit its network, or holds what netslim does not run
    ├── ProofError                  a sub-network disagrees with the masked full network
    ├── ArchiveError                converted.pt (or an output file) cannot be read or written
    └── MissingError                a package that only this command needs is not installed

A message is one sentence (two at most): what is wrong, where, and what to write instead.
"""

from __future__ import annotations

import difflib
import inspect
import signal
import traceback
from collections.abc import Iterable, Iterator
from types import CodeType


class NetslimError(Exception):
    """Base of every error that netslim and gradaug raise on purpose."""


class SourceError(NetslimError):
    """The model could not be found, imported or built."""


class InputError(NetslimError):
    """The example inputs, or an option, do not fit the model."""


class TraceError(NetslimError):
    """The model's own forward failed, or does something that cannot be followed."""


class SubnetError(NetslimError):
    """A width, group or block that this network does not have."""


class PlanError(NetslimError):
    """A plan does not fit its network, or holds what netslim does not run."""


class ProofError(NetslimError):
    """A sub-network disagrees with the masked full network."""


class ArchiveError(NetslimError):
    """A converted file cannot be read, trusted or written."""


class MissingError(NetslimError):
    """A package that only some commands need is not installed."""


class NotProved(UserWarning):
    """A converted file was only checked quickly: `netslim.load` says so whenever it is opened."""


def did_you_mean(name: object, names: Iterable[object], most: int = 3) -> str:
    """'; did you mean a or b?' with the names that are nearest, or nothing: the end of a sentence about a wrong one."""
    near = difflib.get_close_matches(str(name), [str(other) for other in names], n=most, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


# ---------------------------------------------------------------------------- what says nothing of the code it stopped


def is_interruption(error: BaseException) -> bool:
    """Whether an exception says nothing of the code that it stopped: memory ran out, or a signal's handler raised it.

    A handler for a timeout may raise any class of exception, wherever the program is.
    """
    return any(_no_memory(e) or isinstance(e, TimeoutError) or _from_handler(e) for e in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _no_memory(error: BaseException) -> bool:
    """torch has a class of its own for accelerators, and none for the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def _from_handler(error: BaseException) -> bool:
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


def _code(handler: object) -> CodeType | None:
    """The code of a signal's handler: a function, a method, a partial or an object that can be called."""
    for _ in range(4):
        if isinstance(code := getattr(handler, "__code__", None), CodeType):
            return code
        handler = getattr(handler, "func", None) or inspect.getattr_static(type(handler), "__call__", None)
    return None
