"""Pieces that treat places as tokens, and pieces that compute with weights by hand."""

from __future__ import annotations

from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from .layers import conv, dims
from .steps import Shape, Step, Written


def attention(shape: Shape, step: Step) -> nn.Module:
    """Multi-head self-attention over places, added to what came in."""
    c = shape[1]
    heads = gcd(c, step.parts)
    width = heads * max(1, step.width // heads)
    apart = {"q": nn.Linear(c, width), "k": nn.Linear(c, width), "v": nn.Linear(c, width), "out": nn.Linear(width, c)}

    def of_tokens(attend: Any) -> Any:
        def forward(m: Any, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            return x + attend(m, tokens).transpose(1, 2).reshape(x.shape)

        return forward

    def by_hand(m: Any, t: Tensor) -> Tensor:
        q, k, v = (f(t).reshape(t.shape[0], -1, heads, width // heads).transpose(1, 2) for f in (m.q, m.k, m.v))
        scores = (q @ k.transpose(-2, -1) * (width // heads) ** -0.5).softmax(-1)
        return m.out((scores @ v).transpose(1, 2).reshape(t.shape[0], -1, width))

    def fused(m: Any, t: Tensor) -> Tensor:
        b, n, _ = t.shape
        q, k, v = m.qkv(t).reshape(b, n, 3, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
        return m.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width))

    def einsum(m: Any, t: Tensor) -> Tensor:
        q, k, v = (f(t).unflatten(-1, (heads, -1)) for f in (m.q, m.k, m.v))
        scores = torch.einsum("bnhc,bmhc->bhnm", q, k) / (width // heads) ** 0.5
        return m.out(torch.einsum("bhnm,bmhc->bnhc", scores.softmax(-1), v).flatten(2))

    def torch_own(m: Any, t: Tensor) -> Tensor:
        return m.attend(t, t, t, need_weights=False)[0]

    def across(m: Any, t: Tensor) -> Tensor:
        q, k, v = (F.normalize(f(t).transpose(1, 2), dim=-1) for f in (m.q, m.k, m.v))
        return m.out(((q @ k.transpose(1, 2)).softmax(-1) @ v).transpose(1, 2))

    return (
        lambda: Written(of_tokens(by_hand), **apart),
        lambda: Written(of_tokens(fused), qkv=nn.Linear(c, 3 * width), out=nn.Linear(width, c)),
        lambda: Written(of_tokens(einsum), **apart),
        lambda: Written(of_tokens(torch_own), attend=nn.MultiheadAttention(c, heads, batch_first=True)),
        lambda: Written(of_tokens(across), **apart),
    )[step.flavour % 5]()


def mlp(shape: Shape, step: Step) -> nn.Module:
    """Layer norm and two linear layers on channels last."""
    c = shape[1]
    layers = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, step.width), nn.GELU(), nn.Linear(step.width, c))
    back = (0, dims(shape) + 1, *range(1, dims(shape) + 1))
    there = (0, *range(2, dims(shape) + 2), 1)
    return (
        lambda: Written(lambda m, x: x + m.layers(x.permute(there)).permute(back), layers=layers),
        lambda: Written(lambda m, x: x + (m.gamma * m.layers(x.movedim(1, -1))).movedim(-1, 1),
                        layers=layers, gamma=nn.Parameter(torch.full((c,), 0.1))),
        lambda: Written(lambda m, x: _in_rows(m.layers, x.permute(there)).permute(back), layers=layers),
    )[step.flavour % 3]()  # fmt: skip


def _in_rows(layers: nn.Module, x: Tensor) -> Tensor:
    return layers(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], x.shape[-1])


def contraction(shape: Shape, step: Step) -> nn.Module:
    """A pointwise layer written as einsum, matrix product or sum of products."""
    weight = nn.Parameter(torch.randn(step.width, shape[1]) / shape[1] ** 0.5)
    return (
        lambda: Written(lambda m, x: torch.einsum("nc...,oc->no...", x, m.weight), weight=weight),
        lambda: Written(lambda m, x: (m.weight @ x.flatten(2)).view(x.shape[0], -1, *x.shape[2:]), weight=weight),
        lambda: Written(lambda m, x: torch.tensordot(x, m.weight, dims=([1], [1])).movedim(-1, 1), weight=weight),
        lambda: Written(lambda m, x: _batched(m.weight.expand(x.shape[0], -1, -1), x),
                        weight=weight),
    )[step.flavour % 4]()  # fmt: skip


def _batched(weights: Tensor, x: Tensor) -> Tensor:
    return torch.bmm(weights, x.flatten(2)).unflatten(2, x.shape[2:])


def own_weights(shape: Shape, step: Step) -> nn.Module:
    """Convolutions that are called as functions, on weights that are computed first."""
    run: Any = (F.conv1d, F.conv2d, F.conv3d)[dims(shape) - 1]
    groups = gcd(gcd(shape[1], step.width), step.parts)
    layer: Any = conv(shape, step.width, groups=groups if step.flavour % 6 < 4 else 1)

    def standardised(m: Any, x: Tensor) -> Tensor:
        w = m.layer.weight
        axes = tuple(range(1, w.dim()))
        var, mean = torch.var_mean(w, axes, keepdim=True, correction=0)
        return run(x, (w - mean) / (var + 1e-4).sqrt(), m.layer.bias, padding=1, groups=groups)

    def as_timm(m: Any, x: Tensor) -> Tensor:
        w = m.layer.weight
        flat = F.batch_norm(
            w.reshape(1, w.shape[0], -1), None, None, weight=m.gain, training=True, momentum=0.0, eps=1e-4
        )
        return run(x, flat.reshape_as(w), m.layer.bias, padding=1, groups=groups)

    def linear(m: Any, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), m.layer.weight.flatten(2).sum(-1)).movedim(-1, 1)

    return (
        lambda: Written(lambda m, x: run(x, m.layer.weight, m.layer.bias, padding=1, groups=groups), layer=layer),
        lambda: Written(standardised, layer=layer),
        lambda: Written(as_timm, layer=layer, gain=nn.Parameter(torch.ones(step.width))),
        lambda: Written(lambda m, x: run(x, m.layer.weight * m.gain, padding=1, groups=groups), layer=layer,
                        gain=nn.Parameter(torch.ones(step.width, *[1] * (dims(shape) + 1)))),
        lambda: weight_norm(layer),
        lambda: Written(linear, layer=layer),
    )[step.flavour % 6]()  # fmt: skip


TOKENS = {"attention": attention, "mlp": mlp, "contraction": contraction, "weights": own_weights}
