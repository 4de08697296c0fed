"""The forms that an extracted network can be written in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from netslim.export.exported import write_exported
from netslim.export.folder import FILES, write_folder
from netslim.export.onnx import write_onnx
from netslim.export.pickled import write_module
from netslim.export.written import Written
from netslim.extras import require
from netslim.files import check_writable
from netslim.ir.inputs import Inputs
from netslim.notes import Notes


@dataclass(frozen=True, slots=True)
class Writer:
    """A form that a network can be written in."""

    write: Callable[[nn.Module, Inputs, Path, Notes], Written]
    """Of a plain network, the inputs of the network that it was cut from, and what is known about it.

    Returns what is known of the file, with what was read back and compared. Raises ArchiveError, and writes nothing,
    where the file would be another network.
    """
    needs: tuple[str, str] | None = None
    """A package of one of the extras, and what needs it, in the plural."""
    files: tuple[str, ...] = ("",)
    """What is written: the path itself, or files in that folder."""

    def at(self, path: Path) -> tuple[Path, ...]:
        """What is written for `path`."""
        return tuple(path / name for name in self.files)

    def check(self, path: Path) -> None:
        """Raises MissingError unless what it needs is installed, ArchiveError where nothing can be written."""
        for file in self.at(path):
            check_writable(file)
        if self.needs is not None:
            require(*self.needs)


def _module(model: nn.Module, inputs: Inputs, path: Path, notes: Notes) -> Written:
    return _said(write_module(model, path, notes, inputs))


def _folder(model: nn.Module, inputs: Inputs, path: Path, notes: Notes) -> Written:
    return _said(write_folder(model, inputs, path, notes))


def _said(compared: str) -> Written:
    return Written(compared, "" if compared else "the network runs in neither mode")


WRITERS = {
    "": Writer(_folder, files=FILES),
    ".pt": Writer(_module),
    ".pth": Writer(_module),
    ".pt2": Writer(write_exported),
    ".onnx": Writer(write_onnx, ("onnx", "ONNX files")),
}
"""By the suffix of the path; a folder has none."""
