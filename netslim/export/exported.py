"""torch.export programs: the network in evaluation mode, as operators of ATen."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from netslim.errors import ArchiveError
from netslim.export.faithful import by_position, require_same_outputs
from netslim.files import atomic_write
from netslim.ir.inputs import Input, Inputs, batch, drawn
from netslim.notes import ENTRY, Notes


def write_exported(model: nn.Module, inputs: Inputs, path: Path, notes: Notes | None = None) -> str:
    """One file for torch.export.load; a batch that all inputs have in common stays free.

    Returns what was compared. Raises ArchiveError where torch cannot write the network so.
    """
    with atomic_write(path) as temporary, quiet("torch.export", "torch._export"):
        try:
            program = exported(model, inputs)
            extra = {} if notes is None else {ENTRY: notes.to_json()}
            torch.export.save(program, temporary, extra_files=extra)
        except OSError:
            raise
        except Exception as error:
            raise ArchiveError(f"torch cannot export this network ({cause(error)}); write it as .pt.") from error
        again = torch.export.load(temporary).module()
        return require_same_outputs(model, again, inputs, tolerance=1e-4)


def exported(model: nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    """The network in evaluation mode, followed by torch in one and the same way in every version of it."""
    given = _examples(model, inputs)
    return torch.export.export(model.eval(), given, dynamic_shapes=_free_batch(model, inputs), strict=False)


def _examples(model: nn.Module, inputs: Inputs) -> tuple[Any, ...]:
    """Arguments to follow a network with."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    return tuple(by_position(model, drawn(inputs, torch.Generator().manual_seed(0), dtype)).values())


def _free_batch(model: nn.Module, inputs: Inputs) -> Any:
    """What torch's exporters want to know of sizes: a batch that all inputs have in common may be any."""
    free = {0: torch.export.Dim("batch", min=1)} if batch(inputs) else None
    given = tuple(by_position(model, inputs).values())
    return tree_map(lambda leaf: free if isinstance(leaf, Input) else None, given)


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Without torch's remarks on its own exporters."""
    logs = [logging.getLogger(name) for name in names]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def cause(error: BaseException) -> str:
    """The first line of what was wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = re.sub("\x1b\\[[0-9;]*m", "", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__
