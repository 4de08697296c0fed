"""Attention over tokens, channels and places; gates; selective kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, Written, conv, head, images, param, pooled


def _squeeze(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return pooled(m, x * torch.sigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(x, 1))))))


def _squeeze_linear(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    n, c, _, _ = x.size()
    x *= m.gate(x.mean(dim=(-2, -1)).view(n, c)).view(n, c, 1, 1).expand_as(x)
    return m.out(x)


def _efficient(m: Any, x: Tensor) -> Tensor:
    """Efficient channel attention: a convolution along the channels, which therefore all stay."""
    x = m.stem(x)
    gate = m.along(x.mean((2, 3)).unsqueeze(1)).sigmoid().transpose(1, 2).unsqueeze(-1)
    return pooled(m, m.a(x * gate))


def _block_attention(m: Any, x: Tensor) -> Tensor:
    """CBAM: a gate for every channel, then one for every place."""
    x = m.stem(x)
    x = x * (m.mlp(x.mean((2, 3))) + m.mlp(x.amax((2, 3)))).sigmoid()[:, :, None, None]
    return pooled(m, x * m.places(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid())


def _selective(m: Any, x: Tensor) -> Tensor:
    """Selective kernels: two branches weighted against each other, channel by channel."""
    both = torch.stack([m.a(m.stem(x)), m.b(m.stem(x))], dim=1)
    gate = m.up(m.down(both.sum(1).mean((2, 3))).relu()).view(x.shape[0], 2, -1)
    return pooled(m, (both * gate.softmax(1)[..., None, None]).sum(1))


def _split_attention(m: Any, x: Tensor) -> Tensor:
    """ResNeSt: a grouped convolution to two maps, which a softmax over the two weights."""
    x = m.wide(m.stem(x)).relu()
    n, c, h, w = x.shape
    x = x.reshape(n, 2, c // 2, h, w)
    gate = m.up(m.down(x.sum(dim=1).mean((2, 3), keepdim=True)).relu()).view(n, 1, 2, -1).transpose(1, 2)
    return pooled(m, (x * gate.softmax(dim=1).reshape(n, 2, c // 2, 1, 1)).sum(dim=1))


def _tokens(m: Any, x: Tensor) -> Tensor:
    return m.stem(x).flatten(2).transpose(1, 2)


def _one_projection(m: Any, x: Tensor) -> Tensor:
    x = _tokens(m, x)
    n, length, c = x.shape
    q, k, v = m.qkv(x).reshape(n, length, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    x = x + m.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, c))
    return m.head(x.mean(1))


def _three_projections(m: Any, x: Tensor) -> Tensor:
    x = _tokens(m, x)
    n, length, _ = x.shape
    q, k, v = (f(x).reshape(n, length, 2, -1).transpose(1, 2) for f in (m.q, m.k, m.v))
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return m.head((x + m.out((weights @ v).transpose(1, 2).reshape(n, length, -1))).mean(1))


def _fused(m: Any, x: Tensor) -> Tensor:
    x = _tokens(m, x)
    q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in m.qkv(x).chunk(3, dim=-1))
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1 if m.training else 0.0)
    return m.head((x + m.proj(y.transpose(1, 2).flatten(2))).mean(1))


def _torch_module(m: Any, x: Tensor) -> Tensor:
    x = _tokens(m, x)
    return m.head((x + m.attn(x, x, x, need_weights=False)[0]).mean(1))


def _encoder(m: Any, x: Tensor) -> Tensor:
    return m.head(m.encoder(_tokens(m, x)).mean(1))


def _linear_attention(m: Any, x: Tensor) -> Tensor:
    """Keys and values are multiplied first: their channels against each other."""
    x = m.stem(x)
    n, _, h, w = x.shape
    q, k, v = m.qkv(x).view(n, 3, 2, 8, h * w).unbind(1)
    context = k.softmax(dim=-1) @ v.transpose(-1, -2)
    return pooled(m, x + m.proj((context.transpose(-1, -2) @ q.softmax(dim=-2)).reshape(n, 16, h, w)))


def _non_local(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    theta, phi, g = (f(x).flatten(2) for f in (m.theta, m.phi, m.g))
    weights = torch.einsum("bcn,bcm->bnm", theta, phi).softmax(-1)
    return pooled(m, x + m.out(torch.einsum("bnm,bcm->bcn", weights, g).unflatten(2, x.shape[2:])))


def _window(m: Any, x: Tensor) -> Tensor:
    """Shifted windows of four by four places, with a bias for every pair of places (Swin)."""
    x = m.stem(x).permute(0, 2, 3, 1).roll((-2, -2), (1, 2))
    n, h, w, c = x.shape
    windows = x.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
    q, k, v = m.qkv(windows).view(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
    weights = ((q * (c // 2) ** -0.5) @ k.mT + m.bias).softmax(-1)
    windows = m.proj((weights @ v).transpose(1, 2).reshape(-1, 16, c))
    y = windows.view(n, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
    return m.head((x + y).roll((2, 2), (1, 2)).mean((1, 2)))


def _bottleneck_gate(m: Any, x: Tensor) -> Tensor:
    """Coordinate attention: pooled along either side, joined, and cut apart again."""
    x = m.stem(x)
    h, w = x.shape[2:]
    both = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)], dim=2)
    rows, columns = F.hardswish(m.squeeze(both)).split([h, w], dim=2)
    return pooled(m, x * m.rows(rows).sigmoid() * m.columns(columns.permute(0, 1, 3, 2)).sigmoid())


# Heads stay. Of a head's places, queries and keys share one axis and values have another; where one reshape makes all
# three of them it is one axis for all.
def _registers(m: Any, x: Tensor) -> Tensor:
    """Learned tokens beside those of the image, which are as many as it has places; all kinds of ways to part them."""
    x = m.stem(x).flatten(2).transpose(1, 2)
    count, more = x.shape[1], m.registers.shape[0]
    x = m.mix(torch.cat([x, m.registers.expand(x.shape[0], -1, -1)], 1))
    whole = x.shape[1]
    parts = x[:, :count], x[:, count:], x[:, :-more], x[:, -4:], x[:, 0:whole], x[:, : whole - more]
    again = *x.split([count, more], 1), x.narrow(1, count, more), x.narrow(1, 0, count)
    return m.head(sum(part.mean(1) for part in (*parts, *again)))


SPECIMENS = {
    "squeeze and excite": Specimen(
        lambda: Written(_squeeze, stem=conv(3, 16), down=conv(16, 4, 1), up=conv(4, 16, 1), head=head(16)),
        {"stem": 16, "down": 4},
    ),
    "squeeze and excite by linear layers": Specimen(
        lambda: Written(_squeeze_linear, stem=conv(3, 16), out=conv(16, 4, 1),
                        gate=nn.Sequential(nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 16), nn.Sigmoid())),
        {"stem": 16, "gate.0": 6},
    ),
    "efficient channel attention": Specimen(
        lambda: Written(_efficient, stem=conv(3, 8), along=nn.Conv1d(1, 1, 3, padding=1), a=conv(8, 6), head=head(6)),
        {"a": 6},
        dict.fromkeys(("stem.weight[0]", "stem.bias[0]", "a.weight[1]"), "a convolution runs along this dimension"),
    ),
    "block attention": Specimen(
        lambda: Written(_block_attention, stem=conv(3, 12), head=head(12), places=conv(2, 1, 7),
                        mlp=nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 12))),
        {"stem": 12, "mlp.0": 4},
        {"places.weight[1]": "meets a dimension of fixed size"},
    ),
    "selective kernels": Specimen(
        lambda: Written(_selective, stem=conv(3, 8), a=conv(8, 12), b=conv(8, 12, 5), down=nn.Linear(12, 4),
                        up=nn.Linear(4, 24), head=head(12)),
        {"stem": 8, "a": 12, "down": 4},
    ),
    "split attention": Specimen(
        lambda: Written(_split_attention, stem=conv(3, 8), wide=conv(8, 24, groups=2), down=conv(12, 4, 1),
                        up=conv(4, 24, 1), head=head(12)),
        {"stem": 4, "wide": 12, "down": 4},
    ),
    "attention by one projection": Specimen(
        lambda: Written(_one_projection, stem=conv(3, 16), qkv=nn.Linear(16, 48), proj=nn.Linear(16, 16),
                        head=head(16)),
        {"stem": 16, "qkv": 8},
    ),
    "attention by three projections": Specimen(
        lambda: Written(_three_projections, stem=nn.Conv2d(3, 24, 4, 4), q=nn.Linear(24, 16), k=nn.Linear(24, 16),
                        v=nn.Linear(24, 16), out=nn.Linear(16, 24), head=head(24)),
        {"stem": 24, "q": 8, "v": 8},
    ),
    "fused attention": Specimen(
        lambda: Written(_fused, stem=nn.Conv2d(3, 16, 4, 4), qkv=nn.Linear(16, 48), proj=nn.Linear(16, 16),
                        head=head(16)),
        {"stem": 16, "qkv": 8, "qkv#2": 8},
    ),
    "torch's attention": Specimen(
        lambda: Written(_torch_module, stem=nn.Conv2d(3, 24, 4, 4),
                        attn=nn.MultiheadAttention(24, 3, batch_first=True), head=head(24)),
        {"stem": 24, "attn.in_proj_weight": 8},
    ),
    "torch's encoder": Specimen(
        lambda: Written(_encoder, stem=nn.Conv2d(3, 16, 4, 4), head=head(16), encoder=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 20, batch_first=True), 2, enable_nested_tensor=False)),
        {"stem": 16} | {f"encoder.layers.{i}.{name}": n for i in (0, 1)
                        for name, n in (("self_attn.in_proj_weight", 8), ("linear1", 20))},
    ),
    "linear attention": Specimen(
        lambda: Written(_linear_attention, stem=conv(3, 12), qkv=conv(12, 48, 1), proj=conv(16, 12, 1), head=head(12)),
        {"stem": 12, "qkv": 8},
    ),
    "non-local": Specimen(
        lambda: Written(_non_local, stem=conv(3, 16), theta=conv(16, 6, 1), phi=conv(16, 6, 1), g=conv(16, 8, 1),
                        out=conv(8, 16, 1), head=head(16)),
        {"stem": 16, "theta": 6, "g": 8},
    ),
    "shifted windows": Specimen(
        lambda: Written(_window, stem=conv(3, 16), qkv=nn.Linear(16, 48), proj=nn.Linear(16, 16), bias=param(2, 16, 16),
                        head=head(16)),
        {"stem": 16, "qkv": 8},
        {"bias[0]": "another factor", "bias[1]": "meets a dimension of fixed", "bias[2]": "meets a dimension of fixed"},
        others=(images(16, batch=5), images(20, batch=1), images(12, 20)),
    ),
    "coordinate attention": Specimen(
        lambda: Written(_bottleneck_gate, stem=conv(3, 12), squeeze=conv(12, 6, 1), rows=conv(6, 12, 1),
                        columns=conv(6, 12, 1), head=head(12)),
        {"stem": 12, "squeeze": 6},
        others=(images(16, batch=3), images(20, 12)),
    ),
    "register tokens": Specimen(
        lambda: Written(_registers, stem=nn.Conv2d(3, 8, 4, 4), registers=param(4, 8), mix=nn.Linear(8, 6),
                        head=head(6)),
        {"stem": 8, "registers": 4, "mix": 6},
    ),
}  # fmt: skip
