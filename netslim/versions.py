"""What differs between the versions of torch that netslim runs with, asked of torch itself and never of its number.

Everything else is written once, for all of them.
"""

from __future__ import annotations

import inspect

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
