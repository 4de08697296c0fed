"""Plain networks and plain weights into files that need no netslim to be read."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from netslim.errors import ArchiveError
from netslim.extras import needed, require
from netslim.files import atomic_write
from netslim.ir.inputs import Input, Inputs, batch, drawn
from netslim.notes import KEY, Notes, attach, notes_of
from netslim.source.userfile import importing_from


def write_state_dict(state: Mapping[str, Tensor], path: Path) -> None:
    """The tensors under their keys; opens with torch.load(path)."""
    with atomic_write(path) as temporary:
        torch.save(dict(state), temporary)


def write_module(model: nn.Module, path: Path, notes: Notes | None = None) -> None:
    """The whole module, on the CPU it was made on; opens with torch.load(path, weights_only=False)."""
    with atomic_write(path) as temporary:
        torch.save(model, temporary)
        if notes is not None:
            attach(temporary, notes)


def read_module(path: str | Path) -> tuple[nn.Module, Notes]:
    """What `write_module` wrote, with its notes. Opening it runs code that it holds: only for files one trusts.

    Raises ArchiveError when the file is missing, damaged, or something else.
    """
    notes = notes_of(path)
    if notes is None:
        raise ArchiveError(f"{path} is no extracted network; write one with 'netslim extract converted.pt -o {path}'.")
    try:
        with importing_from(Path.cwd()):  # a network that keeps Python of the model's needs its classes
            model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise ArchiveError(f"{path} cannot be opened ({type(error).__name__}: {error}); extract it again.") from error
    if not isinstance(model, nn.Module):
        raise ArchiveError(f"{path} holds a {type(model).__name__} and no network; extract it again.")
    return model, notes


def write_onnx(model: nn.Module, inputs: Inputs, path: Path, notes: Notes | None = None) -> None:
    """One ONNX file with the weights inside. `inputs` are the network's; a batch that all have in common stays free.

    Raises ArchiveError where torch cannot write the network so.
    """
    require("onnxscript", "ONNX files")
    with needed("onnx", "ONNX files"):
        import onnx
    free = {0: torch.export.Dim("batch", min=1)} if batch(inputs) else None
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    given = drawn(inputs, torch.Generator().manual_seed(0), dtype)
    with atomic_write(path) as temporary, _quiet():
        try:
            torch.onnx.export(
                model.eval(),
                tuple(given.values()),
                temporary,
                dynamo=True,
                dynamic_shapes=tree_map(lambda leaf: free if isinstance(leaf, Input) else None, tuple(inputs.values())),
                external_data=False,
                verbose=False,
            )
        except OSError:
            raise
        except Exception as error:
            raise ArchiveError(
                f"torch cannot write this network as ONNX ({_cause(error)}); write it as .pt."
            ) from error
        if notes is not None:
            written = onnx.load(temporary)
            onnx.helper.set_model_props(written, {KEY: notes.to_json()})
            onnx.save(written, temporary)


@dataclass(frozen=True, slots=True)
class Writer:
    """A form that a network can be written in."""

    write: Callable[[nn.Module, Inputs, Path, Notes], None]
    """Of a plain network, the inputs of the network that it was cut from, and what is known about it."""
    needs: tuple[str, str] | None = None
    """A package of one of the extras, and what needs it, in the plural."""

    def check(self) -> None:
        """Raises MissingError unless what it needs is installed."""
        if self.needs is not None:
            require(*self.needs)


def _module(model: nn.Module, _: Inputs, path: Path, notes: Notes) -> None:
    write_module(model, path, notes)


WRITERS = {
    ".pt": Writer(_module),
    ".pth": Writer(_module),
    ".onnx": Writer(write_onnx, ("onnx", "ONNX files")),
}
"""By the suffix of the file."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks on its own exporter."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def _cause(error: BaseException) -> str:
    """The first line of what was wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = re.sub("\x1b\\[[0-9;]*m", "", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__
