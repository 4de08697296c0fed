"""Plain networks and plain weights into files that need no netslim to be read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from netslim.errors import ArchiveError
from netslim.files import atomic_write
from netslim.inputs import Shapes


def write_state_dict(state: Mapping[str, Tensor], path: Path) -> None:
    """The tensors under their keys; opens with torch.load(path)."""
    with atomic_write(path) as temporary:
        torch.save(dict(state), temporary)


def write_module(model: nn.Module, path: Path) -> None:
    """The whole module, on the CPU it was made on; opens with torch.load(path, weights_only=False)."""
    with atomic_write(path) as temporary:
        torch.save(model, temporary)


def write_onnx(model: nn.Module, shapes: Shapes, path: Path) -> None:
    """One ONNX file with the weights inside. `shapes` are those of the inputs with the batch, which stays free."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ArchiveError(
            "writing ONNX needs onnx and onnxscript; run: pip install 'netslim-gradaug[onnx]'."
        ) from error
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
