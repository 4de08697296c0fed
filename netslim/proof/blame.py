"""Whose failure an exception is: that of the network under test, or the proof's own, which says nothing of a network.

Code of the proof runs inside a network too (modes and hooks), and runs its operators. So the innermost of both
decides: what the proof calls by `called` is the network's, what else runs in files of the proof and of the engine is
the proof's.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from types import CodeType
from typing import ParamSpec, TypeVar

from netslim.errors import is_interruption
from netslim.layouts import engine
from netslim.layouts.engine import Call, Engine

P = ParamSpec("P")
T = TypeVar("T")


def called(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls what is under test: a network, an operator or a backward. What it raises is its own failure."""
    return function(*args, **kwargs)


def must_be_the_networks(error: Exception) -> None:
    """Raises the error again where it is not the network's: memory, a timeout, or a bug of the proof."""
    if is_interruption(error) or not _is_the_networks(error):
        raise error


_CALLS = {function.__code__ for function in (called, Call.execute, Engine._decomposed)}
_HERE = os.path.dirname(__file__)
_PROOF = (os.path.join(_HERE, ""), engine.__file__)
_NETWORK = os.path.join(os.path.dirname(_HERE), "net", "")
"""Where the code of converted networks lies."""


def _is_the_networks(error: Exception) -> bool:
    """By the innermost frame that is either."""
    owners = [_owner(frame.f_code) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((owner for owner in reversed(owners) if owner is not None), True)


def _owner(code: CodeType) -> bool | None:
    """Whether a frame begins what the network does; None where it goes on with what was done before."""
    if code in _CALLS or code.co_filename.startswith(_NETWORK):
        return True
    return False if code.co_filename.startswith(_PROOF) else None
