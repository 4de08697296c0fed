"""What differs between the versions of torch that netslim runs with, asked of torch itself and never of its number.

Everything else is written once, for all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch.export
import torch.utils.checkpoint

CHECKPOINT = next(
    name
    for name in ("_checkpoint_without_reentrant_generator_impl", "_checkpoint_without_reentrant_generator")
    if hasattr(torch.utils.checkpoint, name)
)
"""The function of torch.utils.checkpoint that runs what is computed again, as a generator; up to 2.13 the second."""

EXPORTING = 'exporting = getattr(torch.compiler, "is_exporting", lambda: torch.compiler._is_compiling_flag)'
"""A line of printed source, which may be read under another torch: torch.export follows. The flag is 2.6's."""

COMPILES = "recompile_limit" in inspect.signature(torch.compile).parameters
"""Whether torch.compile takes a limit of its own; 2.6 does not, nor does it compile a converted network."""


def export(model: torch.nn.Module, args: tuple[Any, ...], dynamic_shapes: Any) -> torch.export.ExportedProgram:
    """torch.export.export; what a program asks of its sizes, beyond a range of each, is asked when it runs.

    The option was not public at first, and has had two names.
    """
    made: torch.export.ExportedProgram = _exporter()(model, args, dynamic_shapes=dynamic_shapes, strict=False)
    return made


def _exporter() -> Callable[..., Any]:
    from torch.export._trace import _export

    several: tuple[Callable[..., Any], ...] = (torch.export.export, partial(_export, pre_dispatch=True))
    for known in several:
        taken = inspect.signature(known).parameters
        for name in ("prefer_deferred_runtime_asserts_over_guards", "allow_complex_guards_as_runtime_asserts"):
            if name in taken:
                return partial(known, **{name: True})
    return torch.export.export
