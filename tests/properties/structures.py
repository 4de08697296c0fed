"""Structures around a body of further steps: sums, concatenations, shared bodies, gates, encoder and decoder; heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ADAPTIVE, MAX, WIDEST, conv, dims, of, per_channel, spatial
from .steps import Shape, Step, Written, same

Build = Callable[[Shape, tuple[Step, ...]], nn.Module]
"""Makes the steps of a body for a shape; given by `networks`."""


def shape_of(module: nn.Module, shape: Shape) -> Shape:
    """The shape of what a module makes of a tensor of `shape`."""
    was = [(m, m.training) for m in module.modules()]
    module.eval()
    with torch.no_grad():
        out = module(torch.zeros(shape)).shape
    for m, training in was:
        m.training = training
    return tuple(out)


def to_shape(here: Shape, there: Shape) -> nn.Module:
    """Whatever makes a tensor of one shape fit another: space first, then channels."""
    layers: list[nn.Module] = []
    if here[2:] != there[2:]:
        layers.append(Written(lambda _, x: F.interpolate(x, size=there[2:])))
    if here[1] != there[1]:
        layers.append(conv((0, here[1], *there[2:]), there[1], 1))
    return nn.Sequential(*layers) if layers else same()


def back_to(body: nn.Module, shape: Shape) -> nn.Module:
    """The body, made to give the shape that it takes."""
    return nn.Sequential(body, to_shape(shape_of(body, shape), shape))


def residual(shape: Shape, step: Step, build: Build) -> nn.Module:
    body = build(shape, step.inner)
    out = shape_of(body, shape)
    short = to_shape(shape, out)
    if step.flavour % 6 == 0 and out[2:] == shape[2:] and out[1] > shape[1]:
        more = (*(0, 0) * dims(shape), 0, out[1] - shape[1])
        return Written(lambda m, x: F.pad(x, more) + m.body(x), body=body)
    return (
        lambda: Written(lambda m, x: m.short(x) + m.body(x), short=short, body=body),
        lambda: Written(lambda m, x: _added(m.body(x), m.short(x)), short=short, body=body),
        lambda: Written(lambda m, x: m.short(x) + m.gamma * m.body(x), short=short, body=body, gamma=per_channel(out)),
        lambda: Written(lambda m, x: torch.add(m.short(x), m.body(x), alpha=0.5).relu(), short=short, body=body),
        lambda: Written(lambda m, x: torch.lerp(m.short(x), m.body(x), 0.3), short=short, body=body),
        lambda: Written(lambda m, x: sum([m.short(x), m.body(x), m.short(x)]), short=short, body=body),
    )[step.flavour % 6]()  # fmt: skip


def _added(x: Tensor, y: Tensor) -> Tensor:
    x = x * 1.0
    x += y
    return x


def dense(shape: Shape, step: Step, build: Build) -> nn.Module:
    """What came in and what was made of it, side by side, once or twice."""
    body = build(shape, step.inner)
    out = shape_of(body, shape)
    if shape[1] + out[1] > WIDEST:
        return body
    body = nn.Sequential(body, to_shape(out, (0, out[1], *shape[2:])))
    if step.flavour % 2 and shape[1] + 2 * out[1] <= WIDEST:
        more = conv((0, shape[1] + out[1], *shape[2:]), out[1])
        return Written(_dense_twice, body=body, more=more)
    return Written(lambda m, x: torch.cat((x, m.body(x)), 1), body=body)


def _dense_twice(m: Any, x: Tensor) -> Tensor:
    features = [x]
    features.append(m.body(torch.cat(features, 1)))
    features.append(m.more(torch.cat(features, 1)))
    return torch.cat(features, dim=-x.dim() + 1)


def branches(shape: Shape, step: Step, build: Build) -> nn.Module:
    """Several ways side by side, concatenated or added."""
    body = build(shape, step.inner)
    out = shape_of(body, shape)
    pooled = nn.Sequential(of(MAX, shape)(3, stride=1, padding=1), to_shape(shape, out))
    other = nn.Sequential(conv(shape, step.width, 1), to_shape((0, step.width, *shape[2:]), (0, step.width, *out[2:])))
    if step.flavour % 2 or out[1] + step.width > WIDEST:
        return Written(lambda m, x: m.a(x) + m.b(x), a=body, b=pooled)
    return Written(lambda m, x: torch.cat([m.a(x), m.b(x)], 1), a=body, b=other)


def halves(shape: Shape, step: Step, build: Build) -> nn.Module:
    """Half of the channels through the body, the rest past it (ShuffleNetV2, CSP)."""
    if shape[1] % 2:
        return build(shape, step.inner)
    half = (shape[0], shape[1] // 2, *shape[2:])
    body = back_to(build(half, step.inner), half)
    if step.flavour % 2:
        return Written(lambda m, x: _past(m.body, *x.chunk(2, 1)), body=body)
    return Written(lambda m, x: _shuffled(_past(m.body, *x.chunk(2, 1))), body=body)


def _past(body: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first, body(second)), 1)


def _shuffled(x: Tensor) -> Tensor:
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def twice(shape: Shape, step: Step, build: Build) -> nn.Module:
    """One body, called more than once."""
    body = back_to(build(shape, step.inner), shape)
    if step.flavour % 2:
        return Written(lambda m, x: torch.cat([m.body(x), m.body(x.tanh())], 1) if shape[1] < 10 else m.body(m.body(x)),
                       body=body)  # fmt: skip
    return Written(lambda m, x: m.body(m.body(x)), body=body)


def gate(shape: Shape, step: Step, build: Build) -> nn.Module:
    """What came in, multiplied by what was made of it."""
    body = back_to(build(shape, step.inner), shape)
    return Written(lambda m, x: x * m.body(x).sigmoid(), body=body)


def encoder_decoder(shape: Shape, step: Step, build: Build) -> nn.Module:
    """Down, the body, up again, and the way past it."""
    if min(shape[2:]) < 4 or shape[1] + step.width > WIDEST:
        return build(shape, step.inner)
    small = conv(shape, step.width, stride=2)
    body = build(shape_of(small, shape), step.inner)
    out = shape_of(nn.Sequential(small, body), shape)
    up = to_shape(out, (0, step.width, *shape[2:]))
    return Written(lambda m, x: torch.cat([x, m.up(m.body(m.small(x).relu()))], 1), small=small, body=body, up=up)


STRUCTURES = {
    "residual": residual, "dense": dense, "branches": branches, "halves": halves, "twice": twice, "gate": gate,
    "encoder-decoder": encoder_decoder,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------- heads


def head(name: str, shape: Shape) -> nn.Module:
    """From features to the outputs of the network."""
    c = shape[1]
    flat = c * 2 ** dims(shape)
    return {
        "linear": lambda: Written(lambda m, x: m.out(x.mean(spatial(x))), out=nn.Linear(c, 3)),
        "flatten": lambda: nn.Sequential(
            of(ADAPTIVE, shape)(2), nn.Flatten(), nn.Linear(flat, 6), nn.Tanh(), nn.Linear(6, 3)),
        "view": lambda: Written(
            lambda m, x: m.out(m.pool(x).contiguous().view(-1, flat)), pool=of(ADAPTIVE, shape)(2),
            out=nn.Linear(flat, 3)),
        "reshape": lambda: Written(
            lambda m, x: m.out(m.pool(x).reshape(x.size(0), -1)), pool=of(ADAPTIVE, shape)(1), out=nn.Linear(c, 3)),
        "dense": lambda: conv(shape, 3),
        "features": lambda: Written(lambda m, x: {"logits": m.out(x.amax(spatial(x))), "map": m.map(x)},
                                    out=nn.Linear(c, 3), map=conv(shape, 2)),
        "pair": lambda: Written(lambda m, x: (m.a(x.mean(spatial(x))), [m.b(x.flatten(2).mean(-1))]),
                                a=nn.Linear(c, 3), b=nn.Linear(c, 2)),
        "auxiliary": lambda: Written(_auxiliary, out=nn.Linear(c, 3), aux=conv(shape, 4), late=nn.Linear(4, 3)),
        "everything": lambda: Written(lambda m, x: m.out(x).sum(1).mean(spatial(x)[:-1]), out=conv(shape, 4, 1)),
    }[name]()  # fmt: skip


def _auxiliary(m: Any, x: Tensor) -> Any:
    out = m.out(x.mean(spatial(x)))
    return (out, m.late(m.aux(x).mean(spatial(x)))) if m.training else out


HEADS = ("linear", "flatten", "view", "reshape", "dense", "features", "pair", "auxiliary", "everything")
