"""onnxruntime, where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

RUNTIME = "onnxruntime"


def is_installed() -> bool:
    """Whether files of ONNX can be run here."""
    try:
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def session(path: Path) -> Callable[..., list[torch.Tensor]] | None:
    """A file of ONNX as a function of torch's tensors, on the CPU; None where onnxruntime is not installed."""
    if not is_installed():
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _NOTHING
    options.intra_op_num_threads = torch.get_num_threads()
    made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in made.get_inputs()]

    def run(*args: Any) -> list[torch.Tensor]:
        given = [leaf.detach().numpy() for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        return [torch.as_tensor(out) for out in made.run(None, dict(zip(names, given, strict=True)))]

    return run


_NOTHING = 4  # below the end of the process: what is wrong is raised as well
