"""ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from netslim.errors import ArchiveError
from netslim.export.exported import cause, exported, quiet
from netslim.export.faithful import require_same_outputs
from netslim.extras import needed, require
from netslim.files import atomic_write
from netslim.ir.inputs import Inputs, of_one
from netslim.notes import KEY, Notes


def write_onnx(model: nn.Module, inputs: Inputs, path: Path, notes: Notes | None = None) -> str:
    """One ONNX file with the weights inside. `inputs` are the network's; a batch that all have in common stays free.

    Returns what was compared, by onnx's reference; nothing where that cannot run the network. Raises ArchiveError
    where torch cannot write the network so.
    """
    require("onnxscript", "ONNX files")
    with needed("onnx", "ONNX files"):
        import onnx
    with atomic_write(path) as temporary, quiet("torch.onnx"):
        try:
            # Given a model instead, some versions fall back on recording the branches of one run.
            program = exported(model, inputs)
            torch.onnx.export(program, (), temporary, dynamo=True, external_data=False, verbose=False)
        except OSError:
            raise
        except Exception as error:
            raise ArchiveError(f"torch cannot write this network as ONNX ({cause(error)}); write it as .pt.") from error
        written = onnx.load(temporary)
        if notes is not None:
            onnx.helper.set_model_props(written, {KEY: notes.to_json()})
            onnx.save(written, temporary)
        return require_same_outputs(model, _Reference(written), of_one(inputs), tolerance=1e-3)


class _Reference:
    """An ONNX program as a function of torch's tensors, by onnx's reference, which lacks some operators."""

    def __init__(self, written: Any) -> None:
        from onnx.reference import ReferenceEvaluator

        self.names = [each.name for each in written.graph.input]
        self.run = ReferenceEvaluator(written).run

    def __call__(self, *args: Any) -> Any:
        given = [leaf.detach().numpy() for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        try:
            return [torch.as_tensor(out) for out in self.run(None, dict(zip(self.names, given, strict=True)))]
        except Exception:  # says nothing of the file: other runtimes have what is lacking here
            return None
