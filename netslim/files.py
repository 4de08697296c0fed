"""Writing files so that a reader sees the old file or the whole new one, never half of it.

A symbolic link is followed: what it points at is replaced, not the link. Devices, pipes and the process's own output
are refused, as a file put in their place would destroy them.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from .errors import ArchiveError, NetslimError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""What a document of JSON is made of."""


def check_writable(path: str | Path) -> Path:
    """`path` as a Path, if a file can be put there; ArchiveError otherwise. Leaves nothing behind."""
    path = Path(path)
    target = _target(path)
    if target.exists() and not os.access(target, os.W_OK):
        raise ArchiveError(f"cannot write {path}: the file is there already and is read-only.")
    folder = _nearest(target.parent)
    if not folder.is_dir():
        raise ArchiveError(f"cannot write {path}: {folder} is not a folder.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(path, error) from error
    return path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; it takes the place of `path` when the block ends without an error.

    Missing parent folders are made, and are gone again after an error. The temporary name ends like `path` does, so
    that writers which look at the suffix do the right thing. A file that is replaced hands on its permissions.
    ArchiveError when the system refuses, also where a library tells of it in an error of its own; any other error
    raised inside the block passes through.
    """
    path = Path(path)
    target = _target(path)
    with _translated(path), made_folders(target.parent):
        temporary = _temporary(target)
        try:
            yield temporary
            _finish(temporary, target)
        except Exception as error:
            reason = _refusal(error, temporary)
            if reason is None:
                raise
            raise reason from error
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def made_folders(folder: Path) -> Iterator[None]:
    """Makes `folder` and its missing parents; after an error those that are still empty are removed again."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for each in missing:
                each.rmdir()
        raise


def temporary_names(path: Path) -> str:
    """A glob for what a process that was killed while it wrote `path` may have left in its folder."""
    stem, suffix = _affixes(path)
    return f".{stem}-{'[0-9a-f]' * _RANDOM}{suffix}"


def _target(path: Path) -> Path:
    """The regular file that is to be made or replaced: `path`, or what it links to. ArchiveError for anything else."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return Path(os.path.realpath(path))  # also what a dangling link points at
    except NotADirectoryError as error:
        raise ArchiveError(f"cannot write {path}: {_nearest(path.parent)} is not a folder.") from error
    except (OSError, ValueError) as error:
        raise _refused(path, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise ArchiveError(f"cannot write {path}: it is a folder; name a file inside it.")
    if not stat.S_ISREG(found.st_mode):
        raise ArchiveError(f"cannot write {path}: it is a device or a pipe; name a file.")
    if any(os.path.samestat(found, stream) for stream in _output()):
        raise ArchiveError(f"cannot write {path}: it is where this command's messages go; name another file.")
    return Path(os.path.realpath(path))


def _output() -> Iterator[os.stat_result]:
    """Standard output and error, those of them that are open."""
    for number in (1, 2):
        with suppress(OSError):
            yield os.fstat(number)


def _nearest(folder: Path) -> Path:
    """`folder`, or the nearest of its parents that exists."""
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)


_RANDOM = 12
"""Hexadecimal digits in a temporary name."""


def _affixes(path: Path) -> tuple[str, str]:
    """What a temporary name begins and ends with; cut, so that it is no longer than a name may be."""
    return path.stem[:32], path.suffix if len(path.suffix) <= 16 else ""


def _temporary(target: Path) -> Path:
    """A new empty file beside `target`, with the permissions that the umask gives to a new file."""
    stem, suffix = _affixes(target)
    while True:
        path = target.with_name(f".{stem}-{secrets.token_hex(_RANDOM // 2)}{suffix}")
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return path


def _finish(temporary: Path, target: Path) -> None:
    """Makes the new file durable and puts it in its place."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    with suppress(OSError):  # there is none before, or the file system knows no permissions
        os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
    os.replace(temporary, target)
    _sync_folder(target.parent)


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


# ---- what the system refused


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError | ValueError) -> ArchiveError:
    return ArchiveError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}.")


def _refusal(error: Exception, temporary: Path) -> OSError | None:
    """The system's refusal behind an error; None where the error is about something else.

    torch's and safetensors' writers report a full disk in errors of their own. So the errors that led to it are looked
    at, then the number that Rust puts in a message, and then the system is asked once more.
    """
    if isinstance(error, NetslimError):
        return None
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and (seen is error or seen.filename in (None, str(temporary))):
            return seen
        number = re.search(r"\(os error (\d+)\)", str(seen))
        if number:
            return OSError(int(number[1]), os.strerror(int(number[1])))
        seen = seen.__cause__ or seen.__context__
    try:
        _append(temporary)
    except OSError as refusal:
        return refusal
    if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
        return OSError("the disk is full, or the file cannot be written")
    return None


def _append(path: Path, size: int = 1 << 20) -> None:
    """Writes more zeros than a disk that has just been too full has left."""
    with path.open("ab") as file:
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())
