"""The tables that every operator family has, each of which may be empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from netslim.layouts.engine import Rule
from netslim.layouts.slices import Kept
from netslim.ops.fitting import Fit

Shrink = Callable[[nn.Module, Kept], None]
"""Makes the settings of a plain layer agree with its cut weights."""
Slim = tuple[type[nn.Module], Shrink]
"""How a layer runs at a smaller width, and what rebuilds it there."""
Example = Callable[[Callable[..., Tensor]], Tensor]
"""What an operator gives for tensors of a factory, which is called with sizes."""

Rules = Mapping[str, Rule]
Fits = Mapping[str, Fit]
Modules = Mapping[type[nn.Module], Slim]
Examples = Mapping[str, Example]


class Family(Protocol):
    """A file of `netslim/ops`, as the tables of all are put together."""

    RULES: Rules
    FITS: Fits
    MODULES: Modules
    EXAMPLES: Examples
