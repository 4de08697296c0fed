"""The errors that training adds to netslim's tree; each message says what is wrong, where, and what to do.

    netslim.NetslimError
    ├── DataError                   a data specification is unknown, or does not fit the network
    ├── TrainingError               training cannot go on (the loss is not finite)
    ├── CheckpointError             a checkpoint cannot be read, or belongs to another run
    ├── OutputError                 the run's folder exists already, or cannot be written
    └── Stopped                     a signal ended the run; on SIGTERM its checkpoint is written

Options that do not fit each other or the network are netslim's own ``InputError``.
"""

from __future__ import annotations

from netslim.errors import NetslimError


class DataError(NetslimError):
    """The data cannot be found, or does not fit the network."""


class TrainingError(NetslimError):
    """Training cannot go on; the last good checkpoint is kept."""


class CheckpointError(NetslimError):
    """A checkpoint cannot be read, or belongs to another run."""


class OutputError(NetslimError):
    """The run's folder holds another run, or cannot be written."""


class Stopped(NetslimError):
    """A signal ended the run; where it was SIGTERM, after its checkpoint was written."""

    def __init__(self, message: str, number: int = 15) -> None:
        super().__init__(message)
        self.exit_code = 128 + number
        """As a shell has it for the signal."""
