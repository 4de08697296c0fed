"""Which inputs a model takes: shapes without the batch dimension, and example tensors made from them."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn

from netslim.errors import InputError

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]
"""One shape per input of the model."""

DEFAULT: Shapes = ((3, 224, 224),)
BATCH = 2
"""Two images: enough for batch norm in training mode, and a batch dimension that is not 1."""

_NAMES = ("INPUT_SHAPE", "input_shape")


def offered_shapes(module: ModuleType | None, model: nn.Module) -> Shapes | None:
    """What the file (INPUT_SHAPE), the model (input_shape) or timm's configuration says; None when nothing does.

    InputError when the file or model says something that is no shape.
    """
    for owner in (module, model):
        for name in _NAMES:
            value = getattr(owner, name, None)
            if value is not None and not callable(value):
                return _shapes(value, name)
    config = getattr(model, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, dict) else None
    return None if size is None else _shapes(size, "default_cfg['input_size']")


def library_shapes(name: str, home: str) -> Shapes:
    """Inputs of the torchvision model `name`, defined in the module `home`."""
    if name == "inception_v3":
        return ((3, 299, 299),)
    if ".video." in home:
        side = 224 if name.startswith(("mvit", "s3d")) else 112
        return ((3, 16, side, side),)
    if ".optical_flow." in home:
        return DEFAULT * 2
    return DEFAULT


def example_inputs(shapes: Shapes, seed: int = 0) -> Tensor | tuple[Tensor, ...]:
    """Normal random inputs, BATCH of each; the same ones every time. One tensor for one shape, else a tuple."""
    generator = torch.Generator().manual_seed(seed)
    tensors = tuple(torch.randn(BATCH, *shape, generator=generator) for shape in shapes)
    return tensors[0] if len(tensors) == 1 else tensors


def shown(shapes: Shapes) -> str:
    """As --input-shape takes it: 3,224,224 (and 1,8 for a second input)."""
    return " and ".join(",".join(map(str, shape)) for shape in shapes)


def _shapes(value: object, name: str) -> Shapes:
    """One shape, or several, from what a person or library wrote."""
    single = _shape(value)
    if single is not None:
        return (single,)
    several = tuple(map(_shape, value)) if isinstance(value, (tuple, list)) else ()
    if several and None not in several:
        return tuple(shape for shape in several if shape is not None)
    raise InputError(f"{name} is {value!r}; write sizes without the batch dimension, such as (3, 224, 224).")


def _shape(value: object) -> Shape | None:
    if not isinstance(value, (tuple, list)) or not value:
        return None
    return tuple(value) if all(isinstance(n, int) and n > 0 for n in value) else None
