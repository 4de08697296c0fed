"""A network as readable source and weights: model.py, which imports torch and safetensors, and weights.safetensors."""

from __future__ import annotations

import ast
import runpy
import shutil
import tempfile
import textwrap
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from netslim.errors import ArchiveError
from netslim.export.faithful import require_same
from netslim.export.layers import Builder
from netslim.files import atomic_write
from netslim.ir.inputs import Inputs
from netslim.notes import KEY, Notes

SOURCE, WEIGHTS = "model.py", "weights.safetensors"
FILES = (WEIGHTS, SOURCE)


def write_folder(model: nn.Module, inputs: Inputs, path: Path, notes: Notes | None = None) -> str:
    """model.py and weights.safetensors in a folder; `model.load()` gives the network.

    Returns what of it was read back and compared. Raises ArchiveError for a network that source cannot hold.
    """
    text, weights = model_source(model), tensors_of(model)
    metadata = {} if notes is None else {KEY: notes.to_json()}
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        (made / SOURCE).write_text(text, "utf-8")
        safetensors.torch.save_file(weights, made / WEIGHTS, metadata)
        compared = require_same(model, _loaded(made / SOURCE), inputs)
        for name in FILES:
            with atomic_write(path / name) as temporary:
                shutil.copyfile(made / name, temporary)
    return compared


def _loaded(source: Path) -> nn.Module:
    try:
        network: nn.Module = runpy.run_path(str(source))["load"]()
    except Exception as error:
        raise ArchiveError(f"read back, the source does not run ({error}); nothing was written.") from error
    return network


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, constants of forward included, by the first name of each."""
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().contiguous() for name, tensor in found.items()}


def model_source(model: nn.Module) -> str:
    """A module of Python with the network's class, and a function that gives it its weights."""
    source = getattr(type(model).forward, "__globals__", {}).get("source")
    if type(model).__module__ != "extracted" or source is None:
        raise ArchiveError(
            f"{type(model).__name__} keeps Python of its own, which cannot be written out; write the network as .pt."
        )
    tree, lines = ast.parse(source), source.splitlines()
    kind = next(node for node in tree.body if isinstance(node, ast.ClassDef))
    forward = next(node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "forward")
    built, opening = _constructor(model), lines[: kind.body[1].lineno - 1]
    vision = "import torchvision"  # it has layers of its own
    more = [vision] if vision not in opening and any("torchvision.ops." in line for line in built) else []
    head = [_ABOUT, "from pathlib import Path", "", "from safetensors.torch import load_file", *more]
    method = lines[forward.lineno - 1 : forward.end_lineno]
    return "\n".join([*head, *opening, *built, "", *method]) + _LOAD.format(name=kind.name)


def _constructor(model: nn.Module) -> list[str]:
    lines = list(Builder().lines("self", model))
    text = "\n".join(["def __init__(self):", "    super().__init__()", *(f"    {line}" for line in lines)])
    return textwrap.indent(text, "    ").splitlines()


_ABOUT = '''"""A network that was cut out of a larger one; netslim wrote it, and it needs torch and safetensors alone.

    import model

    network = model.load()
"""
'''
_LOAD = '''


def load(weights=Path(__file__).with_name("weights.safetensors")):
    """The network with its weights, in evaluation mode."""
    network, stored = {name}(), load_file(weights)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        tensor.data = stored[name]
    return network.eval()
'''
