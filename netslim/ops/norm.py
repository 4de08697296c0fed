"""Normalisations. Batch norm works channel by channel; the others compute statistics over channels, and a sub-network
computes them over the channels it keeps (the proof does the same in the masked network)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from netslim.ir.program import Node
from netslim.layouts.axes import product
from netslim.layouts.engine import Call, Take
from netslim.layouts.slices import Kept, put, take
from netslim.ops.family import Examples, Fits, Modules, Rules
from netslim.ops.fitting import Fitting, fit_noted


def batch_norm(call: Call) -> None:
    """x (N, C, ...) with weight, bias, running mean and variance (C)."""
    _per_channel(call)
    x, weight, bias = call.arg("input"), call.arg("weight"), call.arg("bias")

    def redo(take: Take) -> Tensor:
        return F.batch_norm(take(x), None, None, weight, bias, True, 0.0, call.arg("eps"))

    if call.arg("training", False):  # weight standardisation: the statistics run over input channels
        call.over([(x, i) for i in range(x.dim()) if i != 1], redo)


def instance_norm(call: Call) -> None:
    """As batch norm, with statistics of each image's own space."""
    _per_channel(call)
    x, weight, bias = call.arg("input"), call.arg("weight"), call.arg("bias")

    def redo(take: Take) -> Tensor:
        return F.instance_norm(take(x), None, None, weight, bias, True, 0.0, call.arg("eps"))

    if call.arg("use_input_stats", True):
        call.over([(x, i) for i in range(2, x.dim())], redo)


def _per_channel(call: Call) -> None:
    x = call.arg("input")
    dims = call.dims(x)
    call.note("num_features", dims[1])
    for tensor in call.tensors:
        if tensor is not x and tensor.dim() == 1:
            call.unify(dims[1], call.dims(tensor)[0])
    for out in call.outs:
        if out.shape == x.shape:
            call.set(out, dims)
        elif out.dim() == 1 and out.shape[0] == x.shape[1]:
            call.set(out, dims[1:2])


def layer_norm(call: Call) -> None:
    """x (..., *normalized_shape) with weight and bias of the normalized shape; also RMS norm."""
    x, weight, bias = call.arg("input"), call.arg("weight"), call.arg("bias")
    rank, dims = len(call.arg("normalized_shape")), call.dims(x)
    for tensor in (weight, bias):
        if tensor is not None:
            for mine, its in zip(dims[-rank:], call.dims(tensor), strict=True):
                call.unify(mine, its)
    call.set(call.outs[0], dims)
    call.note("normalized_shape", product(*dims[-rank:]))
    own = [(x, x.dim() - rank + i) for i in range(rank)]
    params = [(t, i) for t in (weight, bias) if t is not None for i in range(rank)]

    def redo(take: Take) -> Tensor:
        kept, (w, b) = take(x), [None if t is None else take(t) for t in (weight, bias)]
        if call.name == "rms_norm":
            return F.rms_norm(kept, list(kept.shape[-rank:]), w, call.arg("eps"))
        return F.layer_norm(kept, list(kept.shape[-rank:]), w, b, call.arg("eps"))

    call.over(own + params, redo)


def group_norm(call: Call) -> None:
    """x (N, C, ...): C is (groups, rest). Whole groups may go, or else channels of every group."""
    x, weight, bias = call.arg("input"), call.arg("weight"), call.arg("bias")
    groups, dims = call.arg("num_groups"), call.dims(x)
    by_group, _ = call.split(dims[1], groups, x.shape[1] // groups)
    if 1 < groups < x.shape[1]:
        call.count(by_group, "group")
    for tensor in (weight, bias):
        if tensor is not None:
            call.unify(dims[1], call.dims(tensor)[0])
    call.set(call.outs[0], dims)
    call.note("num_groups", by_group)
    channels = [(x, i) for i in range(1, x.dim())] + [(t, 0) for t in (weight, bias) if t is not None]

    def redo(take: Take) -> Tensor:
        affine = {n: None if t is None else take(t) for n, t in (("weight", weight), ("bias", bias))}
        return F.group_norm(take(x), take.count(by_group), eps=call.arg("eps"), **affine)

    call.over(channels, redo)


def fit_layer_norm(node: Node, fit: Fitting) -> Node:
    """The normalized shape is the size of the trailing dimensions."""
    shape = fit.entries(node, 1, "normalized_shape")
    dims = fit.dims(node.args[0])[-len(shape) :]
    return fit.set_argument(node, 1, "normalized_shape", tuple(map(fit.resized, shape, dims)))


Maybe = Tensor | None


class SlimBatchNorm(_BatchNorm):
    """In training, batch statistics; the running ones are left alone inside `sub()` unless it asks for tracking."""

    kept: Kept | None = None

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept
        if kept is None:
            return super().forward(x)
        self._check_input_dim(x)
        weight, bias, mean, var = (
            None if t is None else take(t, kept.tensors.get(name)) for name, t in _named_stats(self)
        )
        training = self.training or mean is None
        if training and kept.track and self.track_running_stats and mean is not None and var is not None:
            return self._tracked(x, kept, (mean, var), weight, bias)
        stats = (None, None) if training else (mean, var)
        return self._normalised(x, *stats, weight, bias, training, 0.0)

    def _normalised(
        self, x: Tensor, mean: Maybe, var: Maybe, weight: Maybe, bias: Maybe, training: bool, momentum: float
    ) -> Tensor:
        return F.batch_norm(x, mean, var, weight, bias, training, momentum, self.eps)

    def _tracked(
        self, x: Tensor, kept: Kept, stats: tuple[Tensor, Tensor], weight: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        assert self.num_batches_tracked is not None, "there are running statistics"
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
        factor = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        seen = stats[0].clone(), stats[1].clone()
        out = self._normalised(x, *seen, weight, bias, True, factor)
        _put_back(self, kept, seen)
        return out


def _named_stats(norm: _NormBase) -> list[tuple[str, Tensor | None]]:
    return [
        ("weight", norm.weight), ("bias", norm.bias),
        ("running_mean", norm.running_mean), ("running_var", norm.running_var),
    ]  # fmt: skip


def _put_back(norm: _NormBase, kept: Kept, seen: tuple[Tensor, Tensor]) -> None:
    """Write the running statistics of the kept channels into those of all."""
    with torch.no_grad():
        for (name, whole), value in zip(_named_stats(norm)[2:], seen, strict=True):
            if whole is not None:
                put(whole, kept.tensors.get(name), value)


class SlimBatchNorm1d(SlimBatchNorm, nn.BatchNorm1d):
    pass


class SlimBatchNorm2d(SlimBatchNorm, nn.BatchNorm2d):
    pass


class SlimBatchNorm3d(SlimBatchNorm, nn.BatchNorm3d):
    pass


class SlimInstanceNorm(_InstanceNorm):
    """Per-channel statistics of each image; running ones are left alone inside `sub()` unless it asks for tracking."""

    kept: Kept | None = None

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept
        if kept is None:
            return super().forward(x)
        self._check_input_dim(x)
        if x.dim() == self._get_no_batch_dim():
            return self.forward(x.unsqueeze(0)).squeeze(0)
        weight, bias, mean, var = (
            None if t is None else take(t, kept.tensors.get(name)) for name, t in _named_stats(self)
        )
        own = self.training or not self.track_running_stats
        if mean is None or var is None:
            return F.instance_norm(x, None, None, weight, bias, True, 0.0, self.eps)
        seen = (mean.clone(), var.clone()) if own else (mean, var)
        out = F.instance_norm(x, *seen, weight, bias, own, self.momentum or 0.0, self.eps)
        if own and kept.track:
            _put_back(self, kept, seen)
        return out


class SlimInstanceNorm1d(SlimInstanceNorm, nn.InstanceNorm1d):
    pass


class SlimInstanceNorm2d(SlimInstanceNorm, nn.InstanceNorm2d):
    pass


class SlimInstanceNorm3d(SlimInstanceNorm, nn.InstanceNorm3d):
    pass


class SlimLayerNorm(nn.LayerNorm):
    kept: Kept | None = None

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept
        if kept is None:
            return super().forward(x)
        weight, bias = (None if t is None else take(t, kept.tensors.get(n)) for n, t in _affine(self))
        return F.layer_norm(x, x.shape[-len(self.normalized_shape) :], weight, bias, self.eps)


class SlimRMSNorm(nn.RMSNorm):
    kept: Kept | None = None

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept
        if kept is None:
            return super().forward(x)
        weight = None if self.weight is None else take(self.weight, kept.tensors.get("weight"))
        return F.rms_norm(x, x.shape[-len(self.normalized_shape) :], weight, self.eps)


class SlimGroupNorm(nn.GroupNorm):
    kept: Kept | None = None

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept
        if kept is None:
            return super().forward(x)
        weight, bias = (None if t is None else take(t, kept.tensors.get(n)) for n, t in _affine(self))
        return F.group_norm(x, kept.ints.get("num_groups", self.num_groups), weight, bias, self.eps)


def _affine(module: nn.LayerNorm | nn.GroupNorm) -> list[tuple[str, Tensor | None]]:
    return [("weight", module.weight), ("bias", module.bias)]


def shrink_features(module: nn.Module, kept: Kept) -> None:
    assert isinstance(module, _NormBase), "MODULES names it for these"
    module.num_features = kept.ints.get("num_features", module.num_features)


def shrink_shape(module: nn.Module, kept: Kept) -> None:
    assert isinstance(module, (nn.LayerNorm, nn.RMSNorm)), "MODULES names it for these"
    weight = module._parameters["weight"]
    if weight is not None:
        module.normalized_shape = tuple(weight.shape)
    elif "normalized_shape" in kept.ints:
        module.normalized_shape = (kept.ints["normalized_shape"],)


def shrink_groups(module: nn.Module, kept: Kept) -> None:
    assert isinstance(module, nn.GroupNorm), "MODULES names it for this"
    module.num_groups = kept.ints.get("num_groups", module.num_groups)
    if module.weight is not None:
        module.num_channels = module.weight.shape[0]


RULES: Rules = {
    "batch_norm": batch_norm, "native_batch_norm": batch_norm, "_native_batch_norm_legit": batch_norm,
    "_native_batch_norm_legit_no_training": batch_norm, "_batch_norm_with_update": batch_norm,
    "cudnn_batch_norm": batch_norm, "instance_norm": instance_norm, "layer_norm": layer_norm, "rms_norm": layer_norm,
    "group_norm": group_norm,
}  # fmt: skip

MODULES: Modules = {
    nn.BatchNorm1d: (SlimBatchNorm1d, shrink_features), nn.BatchNorm2d: (SlimBatchNorm2d, shrink_features),
    nn.BatchNorm3d: (SlimBatchNorm3d, shrink_features), nn.InstanceNorm1d: (SlimInstanceNorm1d, shrink_features),
    nn.InstanceNorm2d: (SlimInstanceNorm2d, shrink_features), nn.InstanceNorm3d: (SlimInstanceNorm3d, shrink_features),
    nn.LayerNorm: (SlimLayerNorm, shrink_shape), nn.RMSNorm: (SlimRMSNorm, shrink_shape),
    nn.GroupNorm: (SlimGroupNorm, shrink_groups),
}  # fmt: skip

FITS: Fits = {
    "torch.nn.functional.group_norm": fit_noted(1, "num_groups"),
    "torch.nn.functional.layer_norm": fit_layer_norm, "torch.nn.functional.rms_norm": fit_layer_norm,
}  # fmt: skip

EXAMPLES: Examples = {
    "batch_norm": lambda r: F.batch_norm(r(2, 6, 4, 4), r(6), r(6).abs() + 1, r(6), r(6)),
    "batch_norm training": lambda r: F.batch_norm(r(2, 6, 4, 4), None, None, r(6), r(6), True),
    "instance_norm": lambda r: F.instance_norm(r(2, 6, 4, 4), None, None, r(6), r(6)),
    "layer_norm": lambda r: F.layer_norm(r(2, 5, 6), (6,), r(6), r(6)),
    "layer_norm two dims": lambda r: F.layer_norm(r(2, 5, 6), (5, 6), r(5, 6), r(5, 6)),
    "rms_norm": lambda r: F.rms_norm(r(2, 5, 6), (6,), r(6)),
    "group_norm": lambda r: F.group_norm(r(2, 12, 4, 4), 6, r(12), r(12)),
    "group_norm large groups": lambda r: F.group_norm(r(2, 12, 4, 4), 2, r(12), r(12)),
    "group_norm one group": lambda r: F.group_norm(r(2, 12, 4, 4), 1, r(12), r(12)),
}
