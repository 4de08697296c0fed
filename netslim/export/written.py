"""What was written, and what is known of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Written:
    """compared: what of the file was read back and compared, in words; nothing where it was not."""

    compared: str
    unchecked: str = ""
    """Why nothing was compared."""
    open: tuple[str, ...] | None = None
    """Names of the dimensions that may have other sizes than the example's; None where the form leaves that to the
    network."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Why each other dimension is as in the example."""
