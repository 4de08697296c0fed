"""Networks written as people write them, each with the number of channel groups that it ought to have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Written(nn.Module):
    """A few layers by name, and a forward given as a function of them."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


def conv(i: int, o: int, k: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


def head(i: int) -> nn.Linear:
    return nn.Linear(i, 5)


def pooled(m: Any, x: Tensor) -> Tensor:
    return m.head(x.mean((2, 3)))


def _residual(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = m.b(F.relu(m.a(x)))
    y += x
    return pooled(m, y)


def _squeeze(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return pooled(m, x * torch.sigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(x, 1))))))


def _shuffle(m: Any, x: Tensor) -> Tensor:
    x = torch.cat([m.a(x), m.b(x)], 1)
    n, c, h, w = x.size()
    x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
    first, second = x.chunk(2, dim=1)
    return pooled(m, torch.cat([first, m.c(second)], 1))


def _sliced(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    k = x.shape[1] // 4
    return pooled(m, torch.cat([m.a(x[:, :k]), x[:, k:]], 1))


def _set_item(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = x.clone()
    y[:, :4] = m.a(x)
    return pooled(m, y)


def _literal_view(m: Any, x: Tensor) -> Tensor:
    x = F.adaptive_avg_pool2d(m.stem(x), 2)
    return m.head(x.view(-1, 16 * 2 * 2))


def _padded(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
    return pooled(m, F.relu(short + m.a(x)))


def _unet(m: Any, x: Tensor) -> Tensor:
    skip = F.relu(m.enc(x))
    x = m.up(F.relu(m.mid(F.max_pool2d(skip, 2))))
    crop = skip[..., 1 : 1 + x.shape[-2] - 2, 1 : 1 + x.shape[-1] - 2]
    return m.out(torch.cat([crop, x[..., 1:-1, 1:-1]], dim=1))


def _pixel_shuffle(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.b(F.pixel_shuffle(m.a(x), 2)))


def _attention(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x).flatten(2).transpose(1, 2)
    n, length, c = x.shape
    q, k, v = m.qkv(x).reshape(n, length, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    x = x + m.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, c))
    return m.head(x.mean(1))


def _torch_attention(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x).flatten(2).transpose(1, 2)
    return m.head((x + m.attn(x, x, x, need_weights=False)[0]).mean(1))


def _twice(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.a(F.relu(m.a(m.stem(x)))))


def _functional(m: Any, x: Tensor) -> Tensor:
    x = F.conv2d(m.stem(x), m.a.weight, m.a.bias, padding=1, groups=m.a.groups)
    return pooled(m, F.group_norm(x, 4))


def _auxiliary(m: Any, x: Tensor) -> Any:
    x = F.relu(m.stem(x))
    return (pooled(m, x), m.aux(m.extra(x).mean((2, 3)))) if m.training else pooled(m, x)


def _gated(m: Any, x: Tensor) -> Tensor:
    value, gate = m.a(m.stem(x)).chunk(2, dim=-3)
    return pooled(m, value * gate.sigmoid())


NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "residual": (lambda: Written(_residual, stem=conv(3, 16), a=conv(16, 12), b=conv(12, 16), head=head(16)), 2),
    "squeeze-and-excite": (
        lambda: Written(_squeeze, stem=conv(3, 16), down=conv(16, 4, 1), up=conv(4, 16, 1), head=head(16)), 2),
    # the halves of the shuffled axis, and the axis of the last convolution
    "shuffle": (lambda: Written(_shuffle, a=conv(3, 8), b=conv(3, 8), c=conv(8, 8), head=head(16)), 3),
    "slice with a computed bound": (lambda: Written(_sliced, stem=conv(3, 16), a=conv(4, 6), head=head(18)), 3),
    "set item": (lambda: Written(_set_item, stem=conv(3, 16), a=conv(16, 4), head=head(16)), 2),
    "literal view": (lambda: Written(_literal_view, stem=conv(3, 16), head=head(64)), 1),
    # the padding before, the channels, the padding after
    "zero-padded shortcut": (
        lambda: Written(_padded, stem=conv(3, 8), a=conv(8, 16, stride=2), head=head(16)), 3),
    "u-net with crop": (
        lambda: Written(_unet, enc=conv(3, 8), mid=conv(8, 16), up=nn.ConvTranspose2d(16, 8, 2, 2),
                        out=conv(16, 4)), 3),
    "pixel shuffle": (lambda: Written(_pixel_shuffle, a=conv(3, 32), b=conv(8, 6), head=head(6)), 2),
    # channels; heads stay, and queries and keys have one head dimension, values another
    "attention": (
        lambda: Written(_attention, stem=conv(3, 16), qkv=nn.Linear(16, 48), proj=nn.Linear(16, 16), head=head(16)), 2),
    "torch attention": (
        lambda: Written(_torch_attention, stem=conv(3, 16), attn=nn.MultiheadAttention(16, 2, batch_first=True),
                        head=head(16)), 2),
    "one layer called twice": (lambda: Written(_twice, stem=conv(3, 16), a=conv(16, 16), head=head(16)), 1),
    "functional grouped": (
        lambda: Written(_functional, stem=conv(3, 16), a=conv(16, 32, groups=8), head=head(32)), 1),
    "auxiliary head in training": (
        lambda: Written(_auxiliary, stem=conv(3, 16), extra=conv(16, 8), aux=head(8), head=head(16)), 2),
    "depthwise multiplier 2": (
        lambda: Written(lambda m, x: pooled(m, F.prelu(m.a(m.stem(x)), m.slope.weight[0])), stem=conv(3, 8),
                        a=conv(8, 16, groups=8), slope=nn.Linear(16, 1), head=head(16)), 1),
    "gated": (lambda: Written(_gated, stem=conv(3, 8), a=conv(8, 24), head=head(12)), 2),
}  # fmt: skip
