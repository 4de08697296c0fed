"""Standard output and error that may be closed, full or narrow: a command ends quietly then, or in a sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

PIPE_CLOSED = 128 + 13
"""Exit code where nobody reads on (``... | head -1``), as shells have it for SIGPIPE."""


class Guarded:
    """A text stream; a write that the system refuses ends the process, through SystemExit, without a traceback.

    SystemExit, as it passes the handlers of ordinary errors on its way: it is no failure of what was being computed.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        """As the stream's own; characters that its encoding lacks are written as escapes."""
        with self._ending():
            try:
                return self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def flush(self) -> None:
        with self._ending():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _discard(self._stream)
            if error.errno == errno.EPIPE:
                raise SystemExit(PIPE_CLOSED) from error
            if self._name != "error":
                sys.stderr.write(f"error: cannot write to standard {self._name}: {error.strerror or error}.\n")
            raise SystemExit(1) from error


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Inside, standard output and error are :class:`Guarded`, and what they hold back is written before the end."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:  # a stream that was closed before Python began is None
        sys.stdout, sys.stderr = Guarded(before[0] or nowhere, "output"), Guarded(before[1] or nowhere, "error")
        try:
            yield
            _flush()
        except SystemExit:
            _flush()
            raise
        finally:
            sys.stdout, sys.stderr = before


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _discard(stream: TextIO) -> None:
    """What the stream still holds, and all that follows, goes nowhere: Python writes it out when it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
