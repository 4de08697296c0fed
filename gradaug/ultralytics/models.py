"""A converted network beside an Ultralytics model, on the model's own tensors.

The model stays what it is: its class, attributes, layers and state_dict. The network is a view of it: what either
trains, the other has. So the model is saved as an ordinary checkpoint, and at full width its own code runs.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

import netslim
from gradaug.inputs import device_of
from netslim import SlimNet
from netslim.errors import InputError
from netslim.extras import needed
from netslim.ir.program import LIFTED
from netslim.net.runtime import runtime
from netslim.net.tree import walk

_NET, _SUBNET = "gradaug.net", "gradaug.subnet"
"""Attributes of a converted model; torch allows a dot in no name of a child, parameter or buffer."""


def converted(yolo: object, prove: bool = True) -> Any:
    """The model of a `YOLO`, or an Ultralytics model itself, as one whose forward also runs at other widths.

    It is of a subclass of the model's class (:class:`Converted`), with its attributes and on its tensors, and all that
    Ultralytics does with a model works: predict, val, loss(batch), export, copies, checkpoints. It is pickled, and so
    saved, as the ordinary model. prove: as :func:`netslim.convert` has it.

    Raises InputError for what is no such model, and for models whose loss or prediction is more than the network's
    output (RT-DETR, World, YOLOE); TraceError and ProofError as :func:`netslim.convert`.
    """
    model = model_of(yolo)
    own: Any = type(model)
    kind = _class(own)
    made = kind.__new__(kind)
    made.__dict__.update(vars(model) | {_NET: view(model, prove), _SUBNET: {}})
    return made


class Converted:
    """What a converted model adds to its class. By itself it runs whole: see :meth:`set_subnet`."""

    base: Any
    """The model's own class."""

    @property
    def net(self) -> SlimNet:
        """The converted network, on this model's tensors and in its modes: groups, blocks, `sub`, `extract`."""
        net: SlimNet = vars(self)[_NET]
        in_the_modes_of(self, net)
        return net

    def set_subnet(
        self, width: float | Mapping[str, float] = 1.0, depth: Mapping[str, bool] | None = None, **more: Any
    ) -> Self:
        """From now on, run as this sub-network, copies too; arguments are those of ``SlimNet.sub``, none is the whole.

        In training mode its norms use the statistics of the batch. In evaluation they are the full network's, which
        fit it as far as training has seen to that. Raises SubnetError for a width or block that it does not have.
        """
        chosen: dict[str, Any] = {"width": width, "depth": depth, **more}
        with self.net.sub(**chosen):
            vars(self)[_SUBNET] = {} if (width, depth) == (1.0, None) else chosen
        return self

    def plain(self) -> Any:
        """The ordinary model, on the same tensors."""
        made = self.base.__new__(self.base)
        made.__dict__.update({name: value for name, value in vars(self).items() if name not in (_NET, _SUBNET)})
        return made

    # -- what Ultralytics calls

    def _predict_once(self, x: Tensor, profile: bool = False, embed: object = None) -> Any:
        chosen = vars(self)[_SUBNET]
        if not chosen:
            return super()._predict_once(x, profile, embed)  # type: ignore[misc]
        if profile or embed:
            raise InputError("profile and embed ask for layers of the whole model: set_subnet() first")
        if any(getattr(module, "export", False) for module in self.modules()):  # type: ignore[attr-defined]
            raise InputError(
                "export writes the whole model: set_subnet() first; net.extract(width=...) makes a module of a "
                "sub-network, which torch exports"
            )
        net = self.net
        with net.sub(**chosen):
            return net(x)

    def fuse(self, *args: Any, **kwargs: Any) -> Any:
        """A plain model whose norms are part of its convolutions; a sub-network stays as it is."""
        return self if vars(self)[_SUBNET] else copy.deepcopy(self.plain()).fuse(*args, **kwargs)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        super()._apply(fn, *args, **kwargs)  # type: ignore[misc]
        for constants in _constants(self.net):
            constants._apply(fn)
        return self

    # -- copies keep the network, files do not

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__dict__.update(copy.deepcopy(vars(self), memo))
        return made

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:
        """What it says it is: pickle writes an object by that, so that a file has the model's own class."""
        return self.base

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.plain().__reduce_ex__(protocol)


@functools.cache
def _class(base: Any) -> Any:
    named = {"base": base, "__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base.__name__, (Converted, base), named)


def model_of(yolo: object) -> Any:
    """The plain model of a `YOLO`, or `yolo` itself; InputError unless its loss is one of the network's output."""
    with needed("ultralytics", "Ultralytics' models"):
        from ultralytics.engine.model import Model
        from ultralytics.nn.tasks import BaseModel
    model: Any = yolo.model if isinstance(yolo, Model) else yolo
    if not isinstance(model, BaseModel):
        raise InputError(f"{type(model).__name__} is no model of Ultralytics: give YOLO('yolo11n.pt'), or its .model")
    model = model.plain() if isinstance(model, Converted) else model
    own = [name for name in _SEAMS if getattr(type(model), name) is not getattr(BaseModel, name)]
    if own:
        raise InputError(
            f"{type(model).__name__} has a {own[0]} of its own, which runs more than the network on images; GradAug "
            "trains Ultralytics' models whose loss is a function of the network's output (detect, segment, pose, obb, "
            "classify, semantic, depth)"
        )
    if model.is_fused() and not _has_norms(model):
        raise InputError("this model is fused: its norms are gone; load it again, or give the checkpoint it came from")
    return model


_SEAMS = ("forward", "predict", "_predict_once", "loss")
"""What of a model's class has to be Ultralytics' common one for a forward to stand for."""


def _has_norms(model: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def view(model: Any, prove: bool = True) -> SlimNet:
    """A converted network on the tensors of `model`, wherever they are and go."""
    device = device_of(model)
    own = copy.deepcopy(model).cpu().float()
    net = netslim.convert(own, example(own), prove=prove).to(device)
    inside = {"": model, **dict(walk(model))}
    for path, module in [("", net), *walk(net)]:
        if LIFTED not in path.split("."):
            for table in ("_parameters", "_buffers", "_non_persistent_buffers_set"):
                module.__dict__[table] = inside[path].__dict__[table]
    runtime(net).rebuilt(runtime(net).plan)  # it holds tables, which are others now
    in_the_modes_of(model, net)
    return net


def example(model: Any) -> Tensor:
    """The smallest images that its deepest features can be normalised on."""
    channels = getattr(model, "yaml", {}).get("channels", 3)
    return torch.zeros(2, channels, *[2 * max(int(model.stride.max()), 32)] * 2)


def in_the_modes_of(model: Any, net: SlimNet) -> None:
    """Every layer of `net` in training or evaluation as that of `model` is."""
    inside = {"": model, **dict(walk(model))}
    for path, module in [("", net), *walk(net)]:
        if path in inside:
            module.training = inside[path].training


def _constants(net: SlimNet) -> Iterator[nn.Module]:
    """What holds the constants of its programs."""
    return (module for path, module in walk(net) if path.rpartition(".")[2] == LIFTED)
