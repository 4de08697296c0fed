"""What networks do with channels besides convolving them: cut, join, gate, shuffle, attend, write weights by hand."""

from __future__ import annotations

from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import WIDEST, conv, dims, norm, of, per_channel, spatial
from .steps import Shape, Step, Written, same

# ---------------------------------------------------------------------------------------------- cut and join


def split_cat(shape: Shape, step: Step) -> nn.Module:
    """Cut the channels up, convolve one piece, put the pieces together in another order."""
    c = shape[1]
    if c < 4:
        return same()
    k = 1 + step.parts % (c - 2)

    def cut(x: Tensor) -> tuple[Tensor, ...]:
        n = x.shape[1]
        return (
            lambda: x.split([k, c - k], dim=1),
            lambda: torch.split(x, [k, n - k], 1),
            lambda: x.chunk(step.parts, dim=1),
            lambda: x.tensor_split((k,), dim=-x.dim() + 1),
            lambda: (x[:, :k], x[:, k:]),
            lambda: (x.narrow(1, 0, n // 3), x[:, n // 3 :]),
            lambda: (x[:, 0::2], x[:, 1::2]),
            lambda: (x[:, : n // 2], x[:, n // 2 :, ...]),
        )[step.flavour % 8]()

    first = cut(torch.zeros(shape))[0].shape
    body = conv(tuple(first), step.width, 1)
    return Written(lambda m, x: _turned(m.body, cut(x)), body=body)


def _turned(body: nn.Module, pieces: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([*pieces[1:], body(pieces[0])], dim=1)


def take_some(shape: Shape, step: Step) -> nn.Module:
    """Go on with some of the channels only."""
    if shape[1] < 4:
        return same()
    k = 1 + step.width % (shape[1] - 2)
    return (
        lambda: Written(lambda _, x: x[:, :k]),
        lambda: Written(lambda _, x: x[:, -k:]),
        lambda: Written(lambda _, x: x[:, : x.shape[1] // 2]),
        lambda: Written(lambda _, x: x.narrow(1, 1, k)),
        lambda: Written(lambda _, x: x * x.select(1, k).unsqueeze(1)),
        lambda: Written(lambda _, x: torch.cat([x[:, k], x[:, 0]], 1).unflatten(1, (2, -1))),
    )[step.flavour % 6]()


def write_some(shape: Shape, step: Step) -> nn.Module:
    """Overwrite some of the channels."""
    c = shape[1]
    if c < 3:
        return same()
    k = 1 + step.width % (c - 1)
    return (
        lambda: Written(lambda m, x: x + _written(x, slice(0, k), m.conv(x)), conv=conv(shape, k, 1)),
        lambda: Written(
            lambda m, x: x + _written(torch.zeros_like(x), slice(c - k, None), m.conv(x)), conv=conv(shape, k)),
        lambda: Written(lambda _, x: _scaled_part(x, k)),
    )[step.flavour % 3]()  # fmt: skip


def _written(x: Tensor, where: slice, value: Tensor) -> Tensor:
    y = x.clone()
    y[:, where] = value
    return y


def _scaled_part(x: Tensor, k: int) -> Tensor:
    y = x * 1.0
    y[:, k:].mul_(0.5)
    return y


def pad_channels(shape: Shape, step: Step) -> nn.Module:
    before, after = ((0, step.parts), (step.parts, 1), (2, 0))[step.flavour % 3]
    zeros = (0, 0) * dims(shape)
    return Written(lambda _, x: F.pad(x, (*zeros, before, after)))


def shuffle(shape: Shape, step: Step) -> nn.Module:
    """The channel shuffle of ShuffleNet, in several spellings."""
    g = gcd(shape[1], step.parts)
    if g == 1:
        return same()

    def by_view(m: Any, x: Tensor) -> Tensor:
        n, c, *space = x.shape
        return x.view(n, g, c // g, *space).transpose(1, 2).reshape(n, c, *space)

    return (
        lambda: Written(by_view),
        lambda: nn.ChannelShuffle(g),
        lambda: Written(lambda _, x: x.unflatten(1, (g, -1)).transpose(1, 2).flatten(1, 2)),
        lambda: Written(lambda _, x: torch.stack(x.chunk(g, 1), 2).flatten(1, 2)),
    )[step.flavour % 4]()


def pixels(shape: Shape, step: Step) -> nn.Module:
    """Channels become places, or places channels."""
    if dims(shape) != 2:
        return same()
    if max(shape[2:]) <= 4:
        return nn.Sequential(conv(shape, 4 * min(step.width, 6)), nn.PixelShuffle(2))
    even = all(n % 2 == 0 for n in shape[2:])
    return nn.Sequential(conv(shape, 3, 1), nn.PixelUnshuffle(2)) if even else same()


def repeats(shape: Shape, step: Step) -> nn.Module:
    if 2 * shape[1] > WIDEST:
        return same()
    ones = [1] * dims(shape)
    return (
        lambda: Written(lambda _, x: x.repeat(1, 2, *ones)),
        lambda: Written(lambda _, x: x.repeat_interleave(2, dim=1)),
        lambda: Written(lambda _, x: torch.cat([x, -x], 1)),
        lambda: Written(lambda m, x: x + m.shift.expand(x.shape[0], -1, *x.shape[2:]), shift=per_channel(shape)),
        lambda: Written(lambda _, x: x + x.mean(1, keepdim=True).expand_as(x)),
        lambda: Written(lambda _, x: x.unsqueeze(2).expand(-1, -1, 2, *[-1] * (x.dim() - 2)).flatten(1, 2)),
    )[step.flavour % 6]()


def stacks(shape: Shape, step: Step) -> nn.Module:
    """Tensors stacked into a new dimension, which is reduced, taken apart or weighted (selective kernels)."""
    a, b = conv(shape, step.width, 1), conv(shape, step.width)
    return (
        lambda: Written(lambda m, x: torch.stack([m.a(x), m.b(x)], 1).sum(1), a=a, b=b),
        lambda: Written(lambda m, x: torch.mul(*torch.stack([m.a(x), m.b(x)]).unbind(0)), a=a, b=b),
        lambda: Written(lambda m, x: torch.stack([m.a(x), m.b(x)], -1).amax(-1), a=a, b=b),
        lambda: Written(_selective, a=a, b=b, gate=nn.Linear(step.width, 2 * step.width)),
    )[step.flavour % 4]()


def _selective(m: Any, x: Tensor) -> Tensor:
    both = torch.stack([m.a(x), m.b(x)], dim=1)
    pooled = both.sum(1).mean(spatial(x))
    weights = m.gate(pooled).view(x.shape[0], 2, -1).softmax(1)
    return (both * weights[(..., *[None] * (x.dim() - 2))]).sum(1)


def reorder(shape: Shape, step: Step) -> nn.Module:
    """Changes of the order of channels; the channels that they touch stay."""
    order = torch.randperm(shape[1])
    return (
        lambda: Written(lambda _, x: x.flip(1)),
        lambda: Written(lambda _, x: x.roll(1, 1)),
        lambda: Written(lambda _, x: x[:, order]),
        lambda: Written(lambda _, x: x.cumsum(1) / shape[1]),
    )[step.flavour % 4]()


# -------------------------------------------------------------------------------------------------- gates


def squeeze_excite(shape: Shape, step: Step) -> nn.Module:
    c, w = shape[1], max(2, step.width // 2)
    ones = [1] * dims(shape)
    small = (0, c, *ones)
    return (
        lambda: Written(
            lambda m, x: x * m.up(m.down(x.mean(spatial(x), keepdim=True)).relu()).sigmoid(),
            down=conv(small, w, 1), up=of((nn.Conv1d, nn.Conv2d, nn.Conv3d), shape)(w, c, 1)),
        lambda: Written(
            lambda m, x: x * m.up(m.down(x.flatten(2).mean(-1)).relu()).sigmoid().view(*x.shape[:2], *ones),
            down=nn.Linear(c, w), up=nn.Linear(w, c)),
        lambda: Written(
            lambda m, x: x * m.gate(torch.cat([x.mean(spatial(x)), x.amax(spatial(x))], 1)).reshape(-1, c, *ones),
            gate=nn.Sequential(nn.Linear(2 * c, w), nn.ReLU(), nn.Linear(w, c), nn.Hardsigmoid())),
    )[step.flavour % 3]()  # fmt: skip


def spatial_attention(shape: Shape, step: Step) -> nn.Module:
    """A gate for every place, from statistics over channels or a convolution to one channel."""
    two, one = conv((0, 2, *shape[2:]), 1), conv(shape, 1)
    return (
        lambda: Written(lambda m, x: x * m.gate(torch.cat([x.mean(1, True), x.amax(1, True)], 1)).sigmoid(), gate=two),
        lambda: Written(lambda m, x: x * m.gate(x).sigmoid(), gate=one),
        lambda: Written(lambda m, x: x * m.gate(x).flatten(2).softmax(-1).view(x.shape[0], 1, *x.shape[2:]), gate=one),
        lambda: Written(lambda m, x: F.normalize(x, dim=1) * m.scale, scale=per_channel(shape)),
        lambda: Written(lambda _, x: x + x.softmax(1)),
    )[step.flavour % 5]()  # fmt: skip


def gated_linear(shape: Shape, step: Step) -> nn.Module:
    wide = conv(shape, 2 * step.width, 1)
    return (
        lambda: Written(lambda m, x: F.glu(m.wide(x), dim=1), wide=wide),
        lambda: nn.Sequential(wide, nn.GLU(1)),
        lambda: Written(lambda m, x: _simple_gate(*m.wide(x).chunk(2, dim=1)), wide=wide),
        lambda: Written(lambda m, x: _simple_gate(*m.wide(x).split(step.width, dim=-dims(shape) - 1)), wide=wide),
    )[step.flavour % 4]()


def _simple_gate(value: Tensor, gate: Tensor) -> Tensor:
    return value * gate.sigmoid()


PIECES = {
    "split": split_cat, "take": take_some, "write": write_some, "pad": pad_channels, "shuffle": shuffle,
    "pixels": pixels, "repeat": repeats, "stack": stacks, "reorder": reorder, "squeeze": squeeze_excite,
    "spatial": spatial_attention, "glu": gated_linear,
}  # fmt: skip
__all__ = ["PIECES", "norm"]
