"""Where a run computes."""

from __future__ import annotations

import torch

from netslim.errors import InputError


def wants_cuda(name: str) -> bool:
    """Whether a device's name means a GPU here; no GPU is touched."""
    return (name == "auto" or name.startswith("cuda")) and torch.cuda.is_available()


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """ "auto" is this process's GPU, or the CPU; InputError for a device that is not there."""
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name in ("auto", "cuda"):
        name = f"cuda:{local_rank}"
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used ({reason}); take --device cpu or auto") from error
