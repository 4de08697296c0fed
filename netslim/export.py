"""Plain networks and plain weights into files that need no netslim to be read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from netslim.errors import ArchiveError
from netslim.extras import needed, require
from netslim.files import atomic_write
from netslim.inputs import Shapes
from netslim.notes import KEY, Notes, attach, notes_of
from netslim.userfile import importing_from


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


def write_onnx(model: nn.Module, shapes: Shapes, path: Path, notes: Notes | None = None) -> None:
    """One ONNX file with the weights inside. `shapes` are those of the inputs with the batch, which stays free."""
    require("onnxscript", "ONNX files")
    with needed("onnx", "ONNX files"):
        import onnx
    batch = torch.export.Dim("batch", min=1)
    inputs = tuple(torch.zeros(shape) for shape in shapes)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with atomic_write(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            inputs,
            temporary,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            external_data=False,
            verbose=False,
        )
        if notes is not None:
            written = onnx.load(temporary)
            onnx.helper.set_model_props(written, {KEY: notes.to_json()})
            onnx.save(written, temporary)
