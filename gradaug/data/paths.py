"""Files that a person's data set consists of: found, named in messages and opened, whatever they turn out to be."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from gradaug.errors import DataError


def root(folder: str) -> Path:
    """The folder behind ``--data NAME:DIR``, with ~ as the home folder. DataError for the home of nobody."""
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise DataError(f"there is no folder {shown(folder)}: {error}") from error


def shown(path: str | Path) -> str:
    """A path for a message: bytes that are no UTF-8, and characters that do not print, as \\xNN."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def opened(path: str | Path) -> BinaryIO:
    """A regular file for reading; OSError for anything else, such as a pipe, which would be waited for."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a file")
    return open(path, "rb")


def reason(error: BaseException) -> str:
    """What an error says, in one line without the path."""
    said = getattr(error, "strerror", None) or str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__
