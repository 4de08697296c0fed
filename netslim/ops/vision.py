"""torchvision's own operators: pooling of regions of interest, deformable convolution, non-maximum suppression."""

from __future__ import annotations

from netslim.ir.program import Node
from netslim.layouts.axes import Const, Reason
from netslim.layouts.binding import freeze
from netslim.layouts.engine import Call
from netslim.ops.family import Examples, Fits, Modules, Rules
from netslim.ops.fitting import Fitting


def pooled_regions(call: Call) -> None:
    """One output map per region, with the channels of the input: (regions, C, height, width)."""
    x, rois = call.arg("input"), call.arg("rois")
    call.freeze([call.dims(x)[0], *call.dims(x)[2:], *call.dims(rois)], "cut out at computed places")
    for out in call.outs:
        call.set(out, [Const(out.shape[0]), call.dims(x)[1], *map(Const, out.shape[2:])])


def position_sensitive(call: Call) -> None:
    """Each output place has channels of its own in the input: those stay whole."""
    for tensor in call.tensors:
        call.freeze(call.dims(tensor), "its channels stand for places")
    for out in call.outs:
        call.set(out, list(map(Const, out.shape)))


def deformable_convolution(call: Call) -> None:
    """As a grouped convolution; the offsets and masks, which count kernel places, stay whole."""
    x, weight, bias, groups = call.arg("input"), call.arg("weight"), call.arg("bias"), call.arg("groups")
    x_dims, w_dims = call.dims(x), call.dims(weight)
    for kernel in w_dims[2:]:
        freeze(kernel, lambda: Reason("kernel"))
    for tensor in (call.arg("offset"), call.arg("mask")):
        call.freeze(call.dims(tensor), "counts the places of a kernel")
    if call.arg("offset_groups") > 1:
        call.freeze([x_dims[1]], "its channels share offsets in groups")
    call.freeze(x_dims[2:], "a convolution runs along this dimension")
    by_group, within = call.split(x_dims[1], groups, x_dims[1].size // groups)
    w_group, _ = call.split(w_dims[0], groups, w_dims[0].size // groups)
    call.unify(by_group, w_group)
    call.unify(within, w_dims[1])
    if bias.numel():
        call.unify(call.dims(bias)[0], w_dims[0])
    call.note("groups", by_group)
    call.set(call.outs[0], [x_dims[0], w_dims[0], *map(Const, call.outs[0].shape[2:])])


def suppression(call: Call) -> None:
    """Indices of boxes: as many as the image asks for."""
    for tensor in call.tensors:
        call.freeze(call.dims(tensor), "chosen by value")
    call.set(call.outs[0], list(map(Const, call.outs[0].shape)))


def fit_groups(node: Node, fit: Fitting) -> Node:
    layout = fit.notes.get("groups")
    if layout is None or fit.fixed(layout):
        return node
    return fit.set_argument(node, _GROUPS, "n_weight_grps", fit.size(layout))


_GROUPS = 11  # the place of the number of groups among the operator's arguments

RULES: Rules = {
    "torchvision::roi_align": pooled_regions,
    "torchvision::roi_pool": pooled_regions,
    "torchvision::ps_roi_align": position_sensitive,
    "torchvision::ps_roi_pool": position_sensitive,
    "torchvision::deform_conv2d": deformable_convolution,
    "torchvision::nms": suppression,
}
FITS: Fits = {"torch.ops.torchvision.deform_conv2d": fit_groups}

MODULES: Modules = {}
EXAMPLES: Examples = {}
