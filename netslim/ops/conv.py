"""Convolutions: plain, grouped, depthwise, transposed, in one, two and three dimensions.

Weight of a convolution: (out, in / groups, *kernel); of a transposed one: (in, out / groups, *kernel).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from netslim.layouts.axes import Const, Layout, Reason, product
from netslim.layouts.binding import freeze
from netslim.layouts.engine import Call
from netslim.layouts.slices import Kept, take
from netslim.ops.family import Examples, Fits, Modules, Rules
from netslim.ops.fitting import fit_noted


def convolution(call: Call) -> None:
    """Input channels are (groups, weight dim 1), output channels weight dim 0, both split into the same groups."""
    _convolve(call, transposed=bool(call.arg("transposed", False)))


def transposed_convolution(call: Call) -> None:
    """Input channels are weight dim 0; output channels are (groups, weight dim 1)."""
    _convolve(call, transposed=True)


def _convolve(call: Call, transposed: bool) -> None:
    x, weight, bias = call.arg("input"), call.arg("weight"), call.arg("bias")
    groups, spatial = call.arg("groups", 1), weight.dim() - 2
    x_dims, w_dims = call.dims(x), call.dims(weight)
    for kernel in w_dims[2:]:
        freeze(kernel, lambda: Reason("kernel"))
    call.freeze(x_dims[-spatial:], "a convolution runs along this dimension")
    channels = x_dims[-spatial - 1]
    by_group, within = call.split(channels, groups, channels.size // groups)
    w_group, w_within = call.split(w_dims[0], groups, w_dims[0].size // groups)
    call.unify(by_group, w_group)
    if 1 < groups < channels.size:
        call.count(by_group, "group")
    call.unify(within, w_within if transposed else w_dims[1])
    out: Layout = product(by_group, w_dims[1]) if transposed else w_dims[0]
    if bias is not None:
        call.unify(call.dims(bias)[0], out)
    call.note("groups", by_group)
    result = call.outs[0]
    call.set(result, [*x_dims[: -spatial - 1], out, *map(Const, result.shape[-spatial:])])


class SlimConv(_ConvNd):
    """Runs a convolution on the kept part of its weights; mixed in before the plain class."""

    kept: Kept | None = None
    _function: Callable[..., Tensor]

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        kept = self.kept
        if kept is None or not kept.tensors:
            return super().forward(x) if output_size is None else super().forward(x, output_size)
        weight = take(self.weight, kept.tensors.get("weight"))
        bias = None if self.bias is None else take(self.bias, kept.tensors.get("bias"))
        return self._run(x, weight, bias, kept.ints.get("groups", self.groups), output_size)

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int, size: list[int] | None) -> Tensor:
        pad: str | int | tuple[int, ...] = self.padding
        if self.padding_mode != "zeros":
            x = nn.functional.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            pad = 0
        return self._function(x, weight, bias, self.stride, pad, self.dilation, groups)


class SlimConvTranspose(SlimConv, _ConvTransposeNd):
    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int, size: list[int] | None) -> Tensor:
        assert not isinstance(self.padding, str), "a transposed convolution's is given in numbers"
        pad = self.output_padding if size is None else self._output_padding(
            x, size, list(self.stride), list(self.padding), list(self.kernel_size), weight.dim() - 2,
            list(self.dilation))  # fmt: skip
        return self._function(x, weight, bias, self.stride, self.padding, pad, groups, self.dilation)


class SlimConv1d(SlimConv, nn.Conv1d):
    _function = staticmethod(nn.functional.conv1d)


class SlimConv2d(SlimConv, nn.Conv2d):
    _function = staticmethod(nn.functional.conv2d)


class SlimConv3d(SlimConv, nn.Conv3d):
    _function = staticmethod(nn.functional.conv3d)


class SlimConvTranspose1d(SlimConvTranspose, nn.ConvTranspose1d):
    _function = staticmethod(nn.functional.conv_transpose1d)


class SlimConvTranspose2d(SlimConvTranspose, nn.ConvTranspose2d):
    _function = staticmethod(nn.functional.conv_transpose2d)


class SlimConvTranspose3d(SlimConvTranspose, nn.ConvTranspose3d):
    _function = staticmethod(nn.functional.conv_transpose3d)


def shrink(module: nn.Module, kept: Kept) -> None:
    """Make a plain convolution's settings agree with its cut weights."""
    assert isinstance(module, _ConvNd), "MODULES names it for these"
    module.groups = kept.ints.get("groups", module.groups)
    dim0, dim1 = module.weight.shape[:2]
    if module.transposed:
        module.in_channels, module.out_channels = dim0, dim1 * module.groups
    else:
        module.out_channels, module.in_channels = dim0, dim1 * module.groups


RULES: Rules = dict.fromkeys(
    ("conv1d", "conv2d", "conv3d", "convolution", "_convolution"), convolution
) | dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), transposed_convolution)

MODULES: Modules = {
    nn.Conv1d: (SlimConv1d, shrink), nn.Conv2d: (SlimConv2d, shrink), nn.Conv3d: (SlimConv3d, shrink),
    nn.ConvTranspose1d: (SlimConvTranspose1d, shrink), nn.ConvTranspose2d: (SlimConvTranspose2d, shrink),
    nn.ConvTranspose3d: (SlimConvTranspose3d, shrink),
}  # fmt: skip

FITS: Fits = {f"torch.nn.functional.conv{n}d": fit_noted(6, "groups") for n in (1, 2, 3)} | {
    f"torch.nn.functional.conv_transpose{n}d": fit_noted(6, "groups") for n in (1, 2, 3)
}

EXAMPLES: Examples = {
    "conv1d": lambda r: torch.nn.functional.conv1d(r(2, 6, 9), r(8, 6, 3), r(8)),
    "conv2d": lambda r: torch.nn.functional.conv2d(r(2, 6, 5, 5), r(8, 6, 3, 3), r(8)),
    "conv2d unbatched": lambda r: torch.nn.functional.conv2d(r(6, 5, 5), r(8, 6, 3, 3)),
    "conv2d same": lambda r: torch.nn.functional.conv2d(r(2, 6, 5, 5), r(8, 6, 3, 3), padding="same"),
    "conv3d": lambda r: torch.nn.functional.conv3d(r(2, 6, 4, 4, 4), r(8, 6, 2, 2, 2)),
    "grouped": lambda r: torch.nn.functional.conv2d(r(2, 8, 5, 5), r(12, 2, 3, 3), r(12), groups=4),
    "depthwise": lambda r: torch.nn.functional.conv2d(r(2, 8, 5, 5), r(8, 1, 3, 3), r(8), groups=8),
    "depthwise multiplier 2": lambda r: torch.nn.functional.conv2d(r(2, 8, 5, 5), r(16, 1, 3, 3), groups=8),
    "transposed": lambda r: torch.nn.functional.conv_transpose2d(r(2, 8, 5, 5), r(8, 6, 3, 3), r(6), stride=2),
    "transposed grouped": lambda r: torch.nn.functional.conv_transpose2d(r(2, 8, 5, 5), r(8, 3, 3, 3), groups=4),
}
