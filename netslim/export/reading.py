"""Networks that `netslim extract` wrote, read again: to score them, and to train on.

    form = form_of("slim")               # None for anything else than an extracted network
    model, notes = read("slim", trust=True)

Which form a path is, and its notes, are known without opening what runs code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors
from torch import nn

from netslim.errors import ArchiveError
from netslim.export.folder import SOURCE, WEIGHTS
from netslim.export.pickled import read_module
from netslim.notes import KEY, Notes, notes_from, notes_of
from netslim.source.userfile import import_file


@dataclass(frozen=True, slots=True)
class Form:
    """A form that an extracted network is read from."""

    suffix: str
    """Of the writer of the same form (:data:`netslim.export.WRITERS`)."""
    words: str
    """What opening it runs; of a form that only evaluates, what it is."""
    read: Callable[[Path], tuple[nn.Module, Notes]] | None
    """Runs code that the file holds; None where what it holds cannot be trained."""
    notes: Callable[[Path], Notes | None] = notes_of
    """Runs nothing."""


def form_of(path: str | Path) -> Form | None:
    """The form of an extracted network at `path`; None for anything else, and for what is not there."""
    path = Path(path)
    if path.is_dir():
        return FOLDER if (path / SOURCE).is_file() and (path / WEIGHTS).is_file() else None
    if not path.is_file():
        return None
    return EVALUATING.get(path.suffix) or (None if notes_of(path) is None else MODULE)


def require_trusted(path: str | Path, form: Form, trust: bool) -> None:
    """ArchiveError for a form that holds no network to train, and for one that nobody said they trust."""
    if form.read is None:
        raise ArchiveError(
            f"{path} is {form.words}, which holds the network in evaluation mode alone, and gradaug takes what also "
            "trains: extract the network to a folder or a .pt file (netslim extract ... -o slim)."
        )
    if not trust:
        kind = "file" if form.suffix else "folder"
        raise ArchiveError(
            f"{path} is a network written by netslim extract, {form.words}; if you trust the {kind}, add --trust."
        )


def read(path: str | Path, *, trust: bool = False) -> tuple[nn.Module, Notes]:
    """The plain network that was written to `path`, in evaluation mode, and its notes. It runs code of the file's.

    Raises ArchiveError where that is not trusted, and for what is no extracted network, is damaged, or of a form that
    only evaluates.
    """
    form = form_of(path)
    if form is None:
        raise ArchiveError(f"{path} is no network that netslim extract wrote.")
    require_trusted(path, form, trust)
    assert form.read is not None
    model, notes = form.read(Path(path))
    return model.eval(), notes


def _read_folder(path: Path) -> tuple[nn.Module, Notes]:
    """What `write_folder` wrote: its model.py is imported, and its `load` called."""
    notes = _folder_notes(path)
    module = import_file(path / SOURCE)
    try:
        model = module.load()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ArchiveError(
            f"{path} gives no network: {SOURCE} and {WEIGHTS} do not fit together ({type(error).__name__}: {reason}); "
            "extract it again."
        ) from error
    if not isinstance(model, nn.Module):
        raise ArchiveError(f"{path / SOURCE} gives a {type(model).__name__} and no network; extract it again.")
    return model, notes


def _folder_notes(path: Path) -> Notes:
    weights = path / WEIGHTS
    try:
        with safetensors.safe_open(weights, "pt") as file:
            notes = notes_from((file.metadata() or {}).get(KEY, ""))
    except (safetensors.SafetensorError, OSError) as error:
        raise ArchiveError(f"{weights} is damaged or no file of safetensors; extract the network again.") from error
    if notes is None:
        raise ArchiveError(f"{weights} has no notes of netslim's that say what the network takes; extract it again.")
    return notes


MODULE = Form(".pt", "a pickled module: opening it runs code that it holds", read_module, notes_of)
FOLDER = Form("", f"a folder of source: opening it runs its {SOURCE}", _read_folder, _folder_notes)
EXPORTED = Form(".pt2", "a program of torch.export", None)
ONNX = Form(".onnx", "an ONNX file", None)
EVALUATING = {form.suffix: form for form in (EXPORTED, ONNX)}
