"""Writing files so that a reader sees the old file or the whole new one, never half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ArchiveError


def check_writable(path: str | Path) -> Path:
    """`path` as a Path, if a file can be put there; ArchiveError otherwise. Leaves nothing behind."""
    path = Path(path)
    if path.is_dir():
        raise ArchiveError(f"cannot write {path}: it is a folder; name a file inside it.")
    folder = path.parent
    if not folder.exists():
        _need_folder(path, folder)
        return path
    if not folder.is_dir():
        raise ArchiveError(f"cannot write {path}: {folder} is not a folder.")
    if path.exists() and not os.access(path, os.W_OK):
        raise ArchiveError(f"cannot write {path}: the file is there already and is read-only.")
    _probe(path, folder)
    return path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; it takes the place of `path` when the block ends without an error.

    Missing parent folders are made. The temporary name ends like `path` does, so that writers which look at the
    suffix do the right thing. ArchiveError when the system refuses; an error raised inside the block passes through
    unless it is an OSError.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A new empty file beside `path`, with the permissions an ordinary new file would get."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)
    return Path(name)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems cannot; the file is complete all the same
    finally:
        os.close(handle)


def _need_folder(path: Path, folder: Path) -> None:
    """A missing folder is fine when the nearest one that exists lets us make it."""
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise ArchiveError(f"cannot write {path}: {parent} is not a folder.")
    _probe(path, parent)


def _probe(path: Path, folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> ArchiveError:
    return ArchiveError(f"cannot write {path}: {error.strerror or error}.")
