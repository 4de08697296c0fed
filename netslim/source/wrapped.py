"""Models that something else stands around: what is converted is the model inside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from netslim.errors import InputError
from netslim.source.sharded import sharded


def shells(model: object) -> Iterator[object]:
    """`model` and what stands inside it, layer by layer: DataParallel, DistributedDataParallel, torch.compile."""
    yield model
    while isinstance(model, nn.Module):
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        elif isinstance(model, _compiled()):
            model = model._orig_mod
        else:
            return
        yield model


def unwrapped(model: object) -> nn.Module:
    """The model in DataParallel, DistributedDataParallel and what torch.compile gives, or the model itself.

    Raises InputError for what is no module, and for one that holds no Python that could be followed.
    """
    *_, model = shells(model)
    if isinstance(model, nn.Module):
        if sharded(model.modules()):
            raise InputError(
                "the model is sharded by fully_shard, and a plain one is wanted here: convert a model before it is "
                "sharded, and shard the converted network"
            )
        return _with_python(model)
    if isinstance(model, torch.export.ExportedProgram):
        raise InputError("the model is a program of torch.export; convert the module that was exported, or .module().")
    raise InputError(f"the model is a {type(model).__name__}, and no torch.nn.Module.")


def _with_python(model: nn.Module) -> nn.Module:
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"{path} is" if path else "the model is"
            raise InputError(
                f"{what} scripted or traced by torch.jit, which leaves no Python to follow; convert the module that "
                "was given to torch.jit."
            )
    return model


def _compiled() -> type:
    """The class of what torch.compile gives; there is none before its module is imported."""
    nothing = SimpleNamespace(OptimizedModule=type("Nothing", (), {}))
    found: type = getattr(sys.modules.get("torch._dynamo.eval_frame", nothing), "OptimizedModule")  # noqa: B009
    return found
