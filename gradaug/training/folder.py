"""The folder of one run: its files, the lock that keeps a second run out, the promise not to overwrite in silence."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gradaug.errors import OutputError
from netslim.export.writers import WRITERS
from netslim.files import atomic_write, made_folders, temporary_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradaug.config.kinds import JSON

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

LOCK = ".gradaug.lock"
"""Is there as long as a run has the folder, and without meaning after one that was killed."""


class RunFolder:
    """Names the files of a run in `path`; nothing else is touched before :meth:`held` and :meth:`clear`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.converted = path / "converted.pt"
        """A recipe's network, before training."""
        self.checkpoint = path / "checkpoint.pt"
        self.metrics = path / "metrics.jsonl"
        self.trained = path / "trained.pt"
        self.result = path / "result.json"
        self.predictions = path / "predictions.png"
        """Images beside what the trained network says of them, of tasks that have such a picture."""
        self.board = path / "tensorboard"
        self.slim = {"": path / "slim", ".pt": path / "slim.pt"}
        """A network that came extracted, trained, by the suffix of its form."""
        slim = (file for suffix, place in self.slim.items() for file in WRITERS[suffix].at(place))
        self._files = (self.checkpoint, self.metrics, self.trained, self.result, self.predictions, *slim)
        self._warning: str | None = None
        """Of the lock that this object holds."""

    def require_free(self, resume: bool, overwrite: bool) -> None:
        """OutputError when the folder holds a run and neither flag says what to do with it."""
        if resume and overwrite:
            raise OutputError("--resume continues a run and --overwrite deletes it: give one of them")
        if not (resume or overwrite) and any(file.exists() for file in self._files):
            raise OutputError(
                f"{self.path} already holds a run; continue it with --resume, replace it with --overwrite, "
                "or choose another --out"
            )

    @contextlib.contextmanager
    def held(self) -> Iterator[str]:
        """Keeps every other run out of the folder, which is made if need be; yields a warning, empty as a rule.

        The lock is the operating system's and ends with the process, however that ends. Inside, it can be held again
        through the same object. OutputError where another run has it, or the folder cannot be written.
        """
        if self._warning is not None:
            yield self._warning
            return
        with _made(self.path):
            handle, self._warning = _lock(self.path)
            try:
                yield self._warning
            finally:
                self._warning = None
                _unlock(self.path / LOCK, handle)

    def clear(self, overwrite: bool) -> None:
        """Removes a run that shall be overwritten, and what processes that were killed have left; other files stay."""
        try:
            if overwrite:
                for file in self._files:
                    Path(os.path.realpath(file)).unlink(missing_ok=True)
                for child in self.board.iterdir() if self.board.is_dir() else ():
                    shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
            for file in (*self._files, self.converted):
                for left in self.path.glob(temporary_names(file)):
                    left.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def write_result(self, values: Mapping[str, JSON]) -> None:
        """Writes result.json atomically."""
        with atomic_write(self.result) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder exists; it is gone again where a run that made it ends in an error and leaves nothing in it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(made_folders(folder))
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write to {folder}: {error.strerror or error}")


# ---- the lock

_held: set[int] = set()
"""Handles of this process. A process forked off it, as one that loads images, closes its copies: a lock lasts as long
as any copy, and would outlive a run that is killed."""

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


def _close_copies() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_copies)


def _lock(folder: Path) -> tuple[int, str]:
    """An open file of the folder that only one process can have locked, and a warning where nothing can be locked."""
    path = folder / LOCK
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            warning = _take(handle, folder)
        except BaseException:
            os.close(handle)
            raise
        if _is_still(path, handle):
            _held.add(handle)
            _sign(handle)
            return handle, warning
        os.close(handle)  # a run that has just ended removed it


def _take(handle: int, folder: Path) -> str:
    """Locks an open file, or raises OutputError; what there is to say where the system has no locks."""
    refused = "this system has no locks"
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return ""
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise OutputError(
                    f"another run{_signature(handle)} is writing to {folder}; wait for its end, or choose another --out"
                ) from error
            if error.errno not in _WITHOUT_LOCKS:
                raise _unwritable(folder, error) from error
            refused = error.strerror or str(error)
    return f"{folder} cannot be locked ({refused}): see to it that no second run is started in it"


def _is_still(path: Path, handle: int) -> bool:
    """Whether an open file has not been removed or replaced meanwhile."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except OSError:
        return False


def _sign(handle: int) -> None:
    """Writes who holds the lock, for the message that another run gets."""
    with contextlib.suppress(OSError):
        os.truncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _signature(handle: int) -> str:
    with contextlib.suppress(OSError):
        text = os.pread(handle, 200, 0).decode(errors="replace").strip()
        return f" ({text})" if text.isprintable() and text else ""
    return ""


def _unlock(path: Path, handle: int) -> None:
    """Removes the file, then lets go of it: nobody can lock it in between."""
    if handle not in _held:  # a process forked off the one that has it
        return
    _held.discard(handle)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    os.close(handle)
