"""Operators with windows over space: pooling, interpolation, patches. Channels pass through; space is constant."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from netslim.layouts.axes import Const, fresh, product
from netslim.layouts.engine import Call, Rule
from netslim.ops.family import Examples, Fits, Modules, Rules

WINDOW = "a window runs along this dimension"


def pool(ndim: int) -> Rule:
    """Windows run over the last `ndim` dimensions; the ones before them are untouched."""

    def rule(call: Call) -> None:
        x = call.tensors[0]
        dims = call.dims(x)
        call.freeze(dims[-ndim:], WINDOW)
        reason = call.why(WINDOW)()
        for out in call.outs:
            call.set(out, [*dims[:-ndim], *(Const(n, reason) for n in out.shape[-ndim:])])

    return rule


def unpool(ndim: int):  # type: ignore[no-untyped-def]
    """Entries put back where a pooling has found them: every channel has the places of its own."""

    def rule(call: Call) -> None:
        x, places = call.arg("self"), call.arg("indices")
        for mine, its in zip(call.dims(x)[:-ndim], call.dims(places)[:-ndim], strict=True):
            call.unify(mine, its)
        call.freeze(call.dims(places)[-ndim:], WINDOW)
        pool(ndim)(call)

    return rule


def grid_sample(call: Call) -> None:
    """x (N, C, *space), grid (N, *space, 2)."""
    x, grid = call.tensors[:2]
    dims = call.dims(x)
    call.freeze(dims[2:], "sampled along this dimension")
    call.freeze(call.dims(grid), "a sampling grid")
    call.unify(dims[0], call.dims(grid)[0])
    call.set(call.outs[0], [*dims[:2], *map(Const, call.outs[0].shape[2:])])


def pixel_shuffle(call: Call) -> None:
    """(.., C * r * r, H, W) -> (.., C, H * r, W * r): C is elastic, the r * r places are not."""
    x, r = call.tensors[0], call.arg("upscale_factor")
    dims = call.dims(x)
    channels, places = call.split(dims[-3], x.shape[-3] // r**2, r**2)
    call.freeze([places, *dims[-2:]], "places of a pixel shuffle")
    call.set(call.outs[0], [*dims[:-3], channels, *map(Const, call.outs[0].shape[-2:])])


def pixel_unshuffle(call: Call) -> None:
    """(.., C, H * r, W * r) -> (.., C * r * r, H, W)."""
    x, r = call.tensors[0], call.arg("downscale_factor")
    dims = call.dims(x)
    call.freeze(dims[-2:], "places of a pixel unshuffle")
    call.set(call.outs[0], [*dims[:-3], product(dims[-3], Const(r**2)), *map(Const, call.outs[0].shape[-2:])])


def channel_shuffle(call: Call) -> None:
    """(N, groups * rest, ...) with the two factors swapped; the number of groups is written in the call."""
    x, groups = call.tensors[0], call.arg("groups")
    dims = call.dims(x)
    by_group, rest = call.split(dims[1], groups, x.shape[1] // groups)
    call.freeze([by_group], "the number of groups of a channel shuffle")
    call.set(call.outs[0], [dims[0], product(rest, by_group), *dims[2:]])


def unfold(call: Call) -> None:
    """im2col: (N, C, H, W) -> (N, C * kernel, L)."""
    x, out = call.tensors[0], call.outs[0]
    dims = call.dims(x)
    call.freeze(dims[-2:], WINDOW)
    kernel = Const(out.shape[-2] // x.shape[-3])
    call.set(out, [*dims[:-3], product(dims[-3], kernel), Const(out.shape[-1])])


def sliding(call: Call) -> None:
    """x.unfold(dim, size, step): windows along one dimension, whose entries come last."""
    x, out, dim = call.tensors[0], call.outs[0], call.arg("dimension") % call.tensors[0].dim()
    dims = list(call.dims(x))
    call.freeze([dims[dim]], WINDOW)
    dims[dim] = Const(out.shape[dim])
    call.set(out, [*dims, Const(out.shape[-1])])


def windows_added(call: Call) -> None:
    """The windows of x.unfold(dim, size, step) added up where they came from, as an inverse Fourier transform does."""
    windows, out = call.tensors[0], call.outs[0]
    dims, dim = list(call.dims(windows)[:-1]), call.arg("dim") % out.dim()
    call.freeze([dims[dim], call.dims(windows)[-1]], WINDOW)
    dims[dim] = Const(out.shape[dim])
    call.set(out, [d if d.size == n else fresh(n) for d, n in zip(dims, out.shape, strict=True)])


def fold(call: Call) -> None:
    """col2im: (N, C * kernel, L) -> (N, C, H, W)."""
    x, out = call.tensors[0], call.outs[0]
    dims = call.dims(x)
    channels, kernel = call.split(dims[-2], out.shape[-3], x.shape[-2] // out.shape[-3])
    call.freeze([kernel, dims[-1]], WINDOW)
    call.set(out, [*dims[:-2], channels, *map(Const, out.shape[-2:])])


_WINDOWS = {
    1: """max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d max_pool1d_with_indices upsample_nearest1d
       upsample_linear1d _upsample_nearest_exact1d reflection_pad1d replication_pad1d""",
    2: """max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d
       upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_nearest_exact2d _upsample_bilinear2d_aa
       _upsample_bicubic2d_aa reflection_pad2d replication_pad2d fractional_max_pool2d""",
    3: """max_pool3d max_pool3d_with_indices avg_pool3d adaptive_avg_pool3d _adaptive_avg_pool3d adaptive_max_pool3d
       upsample_nearest3d upsample_trilinear3d _upsample_nearest_exact3d reflection_pad3d replication_pad3d
       fractional_max_pool3d""",
}

RULES: Rules = {name: pool(ndim) for ndim, names in _WINDOWS.items() for name in names.split()} | {
    "grid_sampler": grid_sample, "pixel_shuffle": pixel_shuffle, "pixel_unshuffle": pixel_unshuffle,
    "channel_shuffle": channel_shuffle, "native_channel_shuffle": channel_shuffle, "im2col": unfold, "col2im": fold,
    "unfold": sliding, "unfold_backward": windows_added, "max_unpool2d": unpool(2), "max_unpool3d": unpool(3),
}  # fmt: skip

EXAMPLES: Examples = {
    "max_pool2d": lambda r: F.max_pool2d(r(2, 6, 4, 4), 2),
    "avg_pool1d": lambda r: F.avg_pool1d(r(2, 6, 4), 2),
    "adaptive_avg_pool3d": lambda r: F.adaptive_avg_pool3d(r(2, 6, 4, 4, 4), 2),
    "bilinear": lambda r: F.interpolate(r(2, 6, 4, 4), scale_factor=2, mode="bilinear"),
    "nearest": lambda r: F.interpolate(r(2, 6, 4), size=7),
    "reflection pad": lambda r: F.pad(r(2, 6, 4, 4), (1, 1, 1, 1), mode="reflect"),
    "pixel_shuffle": lambda r: F.pixel_shuffle(r(2, 24, 3, 3), 2),
    "pixel_unshuffle": lambda r: F.pixel_unshuffle(r(2, 6, 4, 4), 2),
    "channel_shuffle": lambda r: F.channel_shuffle(r(2, 12, 3, 3), 2),
    "unfold": lambda r: F.unfold(r(2, 6, 4, 4), 2),
    "sliding windows": lambda r: r(2, 6, 4, 4).unfold(2, 2, 1).unfold(-2, 3, 1),
    "max_unpool2d": lambda r: F.max_unpool2d(
        r(2, 6, 2, 2), F.max_pool2d(r(2, 6, 4, 4), 2, return_indices=True)[1], [2, 2]
    ),
    "max_unpool1d": lambda r: F.max_unpool1d(r(2, 6, 2), F.max_pool1d(r(2, 6, 4), 2, return_indices=True)[1], [2]),
    "windows added": lambda r: torch.istft(
        torch.stft(r(6, 16), 8, window=torch.hann_window(8, dtype=torch.float64), return_complex=True),
        8,
        window=torch.hann_window(8, dtype=torch.float64),
    ),
    "fold": lambda r: F.fold(r(2, 24, 4), (4, 4), 2, stride=2),
    "grid_sample": lambda r: F.grid_sample(
        r(2, 6, 4, 4), torch.zeros(2, 3, 3, 2, dtype=torch.float64), align_corners=False
    ),
}

FITS: Fits = {}
MODULES: Modules = {}
