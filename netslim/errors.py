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
from collections.abc import Iterable


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


def did_you_mean(name: object, names: Iterable[object], most: int = 3) -> str:
    """'; did you mean a or b?' with the names that are nearest, or nothing: the end of a sentence about a wrong one."""
    near = difflib.get_close_matches(str(name), [str(other) for other in names], n=most, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""
