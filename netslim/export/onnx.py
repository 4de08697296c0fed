"""ONNX files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netslim.export.exported import Trial, written
from netslim.export.runtimes import is_installed, session
from netslim.export.written import Written
from netslim.extras import require
from netslim.ir.inputs import Inputs, tensors_in
from netslim.notes import KEY, Notes


def write_onnx(model: nn.Module, inputs: Inputs, path: Path, notes: Notes | None = None) -> Written:
    """One ONNX file with the weights inside, open in the sizes that the network, torch and ONNX allow.

    It is compared in onnxruntime, where that is installed. Raises ArchiveError where torch cannot write the network so.
    """
    for package in ("onnxscript", "onnx"):
        require(package, "ONNX files")

    def saved(trial: Trial, temporary: Path) -> Callable[..., Any] | None:
        save_onnx(trial, temporary, notes)
        return session(temporary)

    failure = "torch cannot write this network as ONNX"
    return written(model, inputs, path, saved, failure, tolerance=1e-4, runs=is_installed())


def save_onnx(trial: Trial, path: Path, notes: Notes | None) -> None:
    """Writes the network as it is followed in a trial; raises whatever torch does."""
    import onnx

    # Given a model instead, some versions fall back on recording the branches of one run.
    torch.onnx.export(_program(trial), (), path, dynamo=True, external_data=False, verbose=False)
    proto = onnx.load(path)
    _name_dimensions(proto, trial)
    if notes is not None:
        onnx.helper.set_model_props(proto, {KEY: notes.to_json()})
    onnx.save(proto, path)


def _program(trial: Trial) -> torch.export.ExportedProgram:
    """Raises ValueError where sizes are open up to some end alone: a file of ONNX cannot refuse what lies beyond."""
    program = trial.program()
    for limits in program.range_constraints.values():
        if limits.upper < _ENDLESS:
            raise ValueError("a size may be so large and no larger, which ONNX cannot say")
    return program


_ENDLESS = 2**31


def _name_dimensions(proto: Any, trial: Trial) -> None:
    """Open dimensions by their own names in place of torch's symbols."""
    names: dict[str, str] = {}
    for value, dims, leaf in zip(proto.graph.input, trial.sizes.open, tensors_in(trial.inputs), strict=True):
        for made, name in zip(value.type.tensor_type.shape.dim, dims, strict=True):
            if name is not None and not made.dim_param:
                raise ValueError(f"{name} became {made.dim_value} of {leaf.shape}")
            if name is not None and made.dim_param.isidentifier():
                names[made.dim_param] = name
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for made in value.type.tensor_type.shape.dim:
            if made.dim_param:
                made.dim_param = _renamed(made.dim_param, names)


def _renamed(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda found: names.get(found[0], found[0]), text)
