"""Whole modules, and weights alone, as torch saves them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from netslim.archive.python import folders_of
from netslim.errors import ArchiveError
from netslim.export.faithful import require_same
from netslim.files import atomic_write
from netslim.ir.inputs import Inputs
from netslim.notes import Notes, attach, notes_of
from netslim.source.userfile import importing_from


def write_state_dict(state: Mapping[str, Tensor], path: Path) -> None:
    """The tensors under their keys; opens with torch.load(path)."""
    with atomic_write(path) as temporary:
        torch.save(dict(state), temporary)


def write_module(model: nn.Module, path: Path, notes: Notes | None = None, inputs: Inputs | None = None) -> str:
    """The whole module, on the CPU it was made on; opens with torch.load(path, weights_only=False).

    inputs: those of the network; it is then read back, as it is where there is no netslim, and compared.
    Returns what was compared, in words. Raises ArchiveError for a network that a file cannot give back as it is.
    """
    with atomic_write(path) as temporary:
        try:
            torch.save(model, temporary)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ArchiveError(f"this network cannot be pickled ({error}); write it in another form.") from error
        compared = "" if inputs is None else require_same(model, _loaded(temporary), inputs)
        if notes is not None:
            attach(temporary, replace(notes, code=tuple(folders_of(map(type, model.modules())))))
    return compared


class _Unpickler(pickle.Unpickler):
    """Finds no classes of netslim's own."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] in ("netslim", "netslim_cli"):
            raise ArchiveError(f"this network holds a {name} of {module}, which a file for others cannot.")
        return super().find_class(module, name)


_WITHOUT_NETSLIM: Any = SimpleNamespace(__name__="pickle", Unpickler=_Unpickler, load=pickle.load, loads=pickle.loads)


def _loaded(path: Path) -> nn.Module:
    """What a process without netslim reads from the file."""
    try:
        with importing_from(Path.cwd()):
            module = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_WITHOUT_NETSLIM)
    except Exception as error:
        raise ArchiveError(f"read back, the file does not open ({error}); nothing was written.") from error
    assert isinstance(module, nn.Module)
    return module


def read_module(path: str | Path) -> tuple[nn.Module, Notes]:
    """What `write_module` wrote, with its notes. Opening it runs code that it holds: only for files one trusts.

    Raises ArchiveError when the file is missing, damaged, or something else.
    """
    notes = notes_of(path)
    if notes is None:
        raise ArchiveError(f"{path} is no extracted network; write one with 'netslim extract converted.pt -o {path}'.")
    try:
        # a network that keeps Python of the model's needs its classes
        with importing_from(Path.cwd(), Path(path).absolute().parent, *map(Path, notes.code)):
            model = torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise ArchiveError(
            f"{path} cannot be opened: it needs the model's own code, which cannot be imported here ({error}); put it "
            "beside the file, or add its folder to PYTHONPATH."
        ) from error
    except Exception as error:
        raise ArchiveError(f"{path} cannot be opened ({type(error).__name__}: {error}); extract it again.") from error
    if not isinstance(model, nn.Module):
        raise ArchiveError(f"{path} holds a {type(model).__name__} and no network; extract it again.")
    return model, notes
