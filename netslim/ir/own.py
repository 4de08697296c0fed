"""Functions of netslim's own that programs call, beside torch's."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from netslim.errors import InputError

REQUIRE = "netslim.require"
"""The function by which a program refuses sizes and dtypes that it was not followed for."""


def require(found: object, wanted: bool, message: str) -> None:
    """Raises InputError with `message` where `found` is not true or false as `wanted`."""
    if not found if wanted else found:  # which torch.compile can decide for a symbolic size too
        raise InputError(message)


BY_DTYPE = "netslim.by_dtype"
"""The function by which a program has what forward decides by a dtype."""

PRECISIONS = {str(d)[6:]: d for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}
"""By name: the dtypes that a network may run in."""


def by_dtype(dtype: torch.dtype, table: Mapping[str, object], otherwise: object) -> object:
    """What the table has for a precision, by its name."""
    for name, value in table.items():  # which torch.compile follows
        if PRECISIONS.get(name) == dtype:
            return value
    return otherwise
