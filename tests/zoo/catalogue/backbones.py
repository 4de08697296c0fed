"""Whole classifiers in the styles of papers and of people: each a real little network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, conv, images


class PyramidBlock(nn.Module):
    """Han et al. (2017): one activation, a norm at either end, channels of zeros for what the shortcut lacks."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn3(self.conv2(F.relu(self.bn2(self.conv1(self.bn1(x))))))
        short = self.pool(x)
        missing = out.shape[1] - short.shape[1]
        if missing:
            zeros = torch.zeros(out.shape[0], missing, *out.shape[2:], dtype=out.dtype, device=out.device)
            short = torch.cat((short, zeros), 1)
        return out + short


def pyramidnet() -> nn.Module:
    blocks = [PyramidBlock(8, 11, 1), PyramidBlock(11, 14, 2), PyramidBlock(14, 14, 1)]
    end = [nn.BatchNorm2d(14), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(14, 4)]
    return nn.Sequential(conv(3, 8, bias=False), *blocks, *end)


class Bottle2neck(nn.Module):
    """Gao et al. (2019): the middle of a bottleneck is cut in four, and each piece but the last adds to the next."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.convs = nn.ModuleList(conv(width, width) for _ in range(3))
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))
        self.conv3, self.bn3, self.width = conv(4 * width, channels, 1), nn.BatchNorm2d(channels), width

    def forward(self, x: Tensor) -> Tensor:
        pieces = torch.split(F.relu(self.bn1(self.conv1(x))), self.width, 1)
        out = last = F.relu(self.bns[0](self.convs[0](pieces[0])))
        for i in (1, 2):
            last = F.relu(self.bns[i](self.convs[i](last + pieces[i])))
            out = torch.cat((out, last), 1)
        return F.relu(self.bn3(self.conv3(torch.cat((out, pieces[3]), 1))) + x)


def res2net() -> nn.Module:
    return nn.Sequential(
        conv(3, 12), Bottle2neck(12, 6), Bottle2neck(12, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)
    )


class FunctionalOnly(nn.Module):
    """Every weight is a bare parameter, and forward is written with torch.nn.functional."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "dw": (8, 1, 3, 3), "w2": (12, 8, 1, 1), "gain": (12,),
                  "shift": (12,), "w3": (12, 12, 3, 3), "fc": (20, 12), "fcb": (20,), "out": (4, 20)}  # fmt: skip
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.randn(*s) * 0.3) for name, s in shapes.items()})
        self.register_buffer("mean", torch.zeros(12))
        self.register_buffer("var", torch.ones(12))

    def forward(self, x: Tensor) -> Tensor:
        w = self.weights
        x = F.relu(F.conv2d(x, w["w1"], w["b1"], padding=1))
        x = F.conv2d(F.conv2d(x, w["dw"], padding=1, groups=8), w["w2"], stride=2)
        x = F.batch_norm(x, self.mean, self.var, w["gain"], w["shift"], self.training, 0.1)
        x = x + F.hardswish(F.conv2d(x, w["w3"], padding=(1, 1)))
        x = F.dropout(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1), 0.2, self.training)
        return F.linear(F.gelu(F.linear(x, w["fc"], w["fcb"])), w["out"])


class MobileViTBlock(nn.Module):
    """Mehta and Rastegari (2022): patches unfold into tokens, a transformer mixes them, they fold back."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.local, self.project_in = conv(channels, channels), conv(channels, dim, 1, bias=False)
        self.norm1, self.qkv, self.proj = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), nn.Sequential(nn.Linear(dim, 20), nn.SiLU(), nn.Linear(20, dim))
        self.norm, self.project_out, self.fuse = nn.LayerNorm(dim), conv(dim, channels, 1), conv(2 * channels, channels)

    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(((q @ k.transpose(-1, -2) * (c // 2) ** -0.5).softmax(-1) @ v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project_in(self.local(x))
        b, c, h, w = y.shape
        y = y.reshape(b * c * (h // 2), 2, w // 2, 2).transpose(1, 2)
        y = y.reshape(b, c, h * w // 4, 4).transpose(1, 3).reshape(b * 4, h * w // 4, c)
        y = y + self.attend(self.norm1(y))
        y = self.norm(y + self.mlp(self.norm2(y)))
        y = y.contiguous().view(b, 4, h * w // 4, c).transpose(1, 3)
        y = y.reshape(b * c * (h // 2), w // 2, 2, 2).transpose(1, 2).reshape(b, c, h, w)
        return self.fuse(torch.cat((x, self.project_out(y)), dim=1))


def mobilevit() -> nn.Module:
    return nn.Sequential(
        conv(3, 8, stride=2), nn.SiLU(), MobileViTBlock(8, 12), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


class FoldedUnfold(nn.Module):
    """Every patch by F.unfold is a token; F.fold puts the patches back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.out, self.head = conv(3, 6), nn.Linear(24, 24), conv(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        tokens = F.unfold(x, 2, stride=2).transpose(1, 2)
        tokens = (tokens + self.mix(tokens).tanh()).transpose(1, 2)
        return self.head(self.out(F.fold(tokens, x.shape[-2:], 2, stride=2)).mean((2, 3)))


class Capsules(nn.Module):
    """Sabour et al. (2017): vectors that vote, weighted by agreement, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.primary = conv(3, 8, stride=2), nn.Conv2d(8, 4 * 6, 4, 4)
        self.votes = nn.Parameter(torch.randn(4, 5, 6, 10) * 0.3)

    @staticmethod
    def squash(x: Tensor) -> Tensor:
        square = (x * x).sum(-1, keepdim=True)
        return square / (1 + square) * x / (square + 1e-8).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        u = self.primary(F.relu(self.stem(x)))
        u = self.squash(u.view(u.shape[0], 4, 6, -1).mean(-1))
        votes = torch.einsum("nid,ijde->nije", u, self.votes)
        agreement = torch.zeros(votes.shape[:3], dtype=x.dtype, device=x.device)
        for _ in range(2):
            v = self.squash((agreement.softmax(2).unsqueeze(-1) * votes).sum(1))
            agreement = agreement + (votes * v.unsqueeze(1)).sum(-1)
        return v.norm(dim=-1)


class Gram(nn.Module):
    """Bilinear pooling: the products of all pairs of channels are the features."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 6)), nn.Linear(36, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).flatten(2)
        gram = torch.bmm(x, x.transpose(1, 2)) / x.shape[-1]
        gram = gram.flatten(1)
        return self.head(F.normalize(gram.sign() * (gram.abs() + 1e-5).sqrt(), dim=1))


class GlobalFilter(nn.Module):
    """Rao et al. (2021): a learned filter in frequency space, for every channel and frequency."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 12, 4, 4), nn.LayerNorm(12), nn.Linear(12, 4)
        self.filter = nn.Parameter(torch.randn(4, 3, 12, 2) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        _, h, w, _ = x.shape
        y = torch.fft.rfft2(self.norm(x), dim=(1, 2), norm="ortho") * torch.view_as_complex(self.filter)
        return self.head((x + torch.fft.irfft2(y, s=(h, w), dim=(1, 2), norm="ortho")).mean((1, 2)))


FIXED = images(16, batch=3), images(16, batch=1)  # other batches, no other sides
SPECIMENS: dict[str, Specimen] = {
    # the channels that a block adds are an axis of their own, on both sides of every later sum
    "PyramidNet": Specimen(
        pyramidnet, {"0": 8, "1.conv1": 11, "1.conv2": 3, "2.conv1": 14, "2.conv2": 3, "3.conv1": 14}
    ),
    # each piece but the first is one axis with the step before it
    "Res2Net": Specimen(
        res2net,
        {"0": 12} | {f"{block}.{name}": width for block, width in ((1, 6), (2, 5))
                     for name in ("conv1", "conv1#2", "conv1#3", "conv1#4", "convs.2")},
    ),
    "functional only": Specimen(FunctionalOnly, {"weights.w1": 8, "weights.w2": 12, "weights.fc": 20}),
    # of two heads of six places, the places
    "MobileViT": Specimen(
        mobilevit,
        {"0": 8, "2.local": 8, "2.project_in": 12, "2.qkv": 6, "2.mlp.0": 20, "2.project_out": 8, "2.fuse": 8},
    ),
    "unfold and fold": Specimen(FoldedUnfold, {"stem": 6, "out": 8}),
    # four kinds of vectors of six entries vote for five of ten
    "capsules": Specimen(
        Capsules, {"stem": 8, "primary": 6, "votes.3": 10}, {"votes[0]": "another factor"}, others=FIXED
    ),
    # an axis times itself is still one axis
    "bilinear pooling": Specimen(Gram, {"features.0": 8, "features.2": 6}),
    "global filter": Specimen(
        GlobalFilter, {"stem": 12},
        {"filter[0]": "a Fourier transform", "filter[1]": "a Fourier transform", "filter[3]": "real and imaginary"},
        others=FIXED,
    ),
}  # fmt: skip
