"""Networks that answer for every pixel, in the styles of papers: decoders, generators, necks, optical flow."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, conv, images


class SegNet(nn.Module):
    """Badrinarayanan et al. (2017): what comes up is put back where the pooling on the way down has found it."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom, self.up = conv(3, 8), conv(8, 10), conv(10, 8)
        self.out = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x, places = F.max_pool2d(self.down(x), 2, return_indices=True)
        return self.out(F.max_unpool2d(self.up(self.bottom(x).relu()), places, 2))


class UNet(nn.Module):
    """Ronneberger et al. (2015): unpadded convolutions, and skips cropped to what comes up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([self.double(3, 6), self.double(6, 10)])
        self.bottom = self.double(10, 14)
        self.up = nn.ModuleList([nn.ConvTranspose2d(14, 10, 2, 2), nn.ConvTranspose2d(10, 6, 2, 2)])
        self.merge = nn.ModuleList([self.double(20, 10), self.double(12, 6)])
        self.out = nn.Conv2d(6, 2, 1)

    @staticmethod
    def double(i: int, o: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(i, o, 3), nn.BatchNorm2d(o), nn.ReLU(True), nn.Conv2d(o, o, 3), nn.ReLU(True))

    @staticmethod
    def crop(skip: Tensor, like: Tensor) -> Tensor:
        top, left = ((a - b) // 2 for a, b in zip(skip.shape[2:], like.shape[2:], strict=True))
        return skip[:, :, top : top + like.shape[2], left : left + like.shape[3]]

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = up(x)
            x = merge(torch.cat([self.crop(skips.pop(), x), x], dim=1))
        return self.out(x)


class ModulatedConv(nn.Module):
    """Karras et al. (2020): a style scales the kernels of each image, which are normed and run as one grouped call."""

    def __init__(self, i: int, o: int, style: int, demodulate: bool = True) -> None:
        super().__init__()
        self.weight, self.affine = nn.Parameter(torch.randn(1, o, i, 3, 3)), nn.Linear(style, i)
        self.noise, self.bias, self.demodulate = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(o)), demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weight = self.weight * self.affine(style).view(n, 1, c, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        out = weight.shape[1]
        x = F.conv2d(x.reshape(1, n * c, h, w), weight.view(n * out, c, 3, 3), padding=1, groups=n)
        x = x.view(n, out, h, w) + self.noise * x.new_ones(n, 1, h, w)
        return F.leaky_relu(x + self.bias.view(1, -1, 1, 1), 0.2)


class StyleGenerator(nn.Module):
    """A mapping network, a constant to start from, and an image summed over resolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(6, 10), nn.LeakyReLU(0.2), nn.Linear(10, 10), nn.LeakyReLU(0.2))
        self.start = nn.Parameter(torch.randn(1, 12, 4, 4))
        self.convs = nn.ModuleList([ModulatedConv(12, 12, 10), ModulatedConv(12, 8, 10), ModulatedConv(8, 6, 10)])
        self.to_rgb = nn.ModuleList([nn.Conv2d(12, 3, 1), nn.Conv2d(8, 3, 1), nn.Conv2d(6, 3, 1)])

    def forward(self, z: Tensor) -> Tensor:
        style = self.mapping(z * torch.rsqrt(z.pow(2).mean(dim=1, keepdim=True) + 1e-8))
        x, image = self.start.repeat(z.shape[0], 1, 1, 1), None
        for i, (layer, rgb) in enumerate(zip(self.convs, self.to_rgb, strict=True)):
            if i:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = layer(x, style)
            image = rgb(x) if image is None else rgb(x) + F.interpolate(image, scale_factor=2)
        return image


class ConvBlock(nn.Sequential):
    def __init__(self, i: int, o: int, k: int = 1, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o), nn.SiLU(inplace=True))


class C2f(nn.Module):
    """A cross-stage block whose pieces are all read at the end (YOLOv8)."""

    def __init__(self, i: int, o: int, n: int = 2) -> None:
        super().__init__()
        self.half = o // 2
        self.cv1, self.cv2 = ConvBlock(i, o), ConvBlock((2 + n) * self.half, o)
        self.m = nn.ModuleList(nn.Sequential(ConvBlock(self.half, self.half, 3)) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).split((self.half, self.half), 1))
        y.extend(y[-1] + m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class SPPF(nn.Module):
    """Pooled again and again, all of them read together."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m = ConvBlock(c, c // 2), ConvBlock(2 * c, c), nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = [self.cv1(x)]
        y.extend(self.m(y[-1]) for _ in range(3))
        return self.cv2(torch.cat(y, 1))


class YoloNeck(nn.Module):
    """Focus, two stages, pooling pyramid, the way up and the way down, a head of anchors on either level."""

    def __init__(self) -> None:
        super().__init__()
        self.focus = ConvBlock(12, 8, 3)
        self.stage1, self.down, self.stage2 = C2f(8, 8), ConvBlock(8, 12, 3, 2), C2f(12, 12, 1)
        self.sppf, self.lateral, self.top = SPPF(12), ConvBlock(12, 8), C2f(16, 10, 1)
        self.again, self.bottom = ConvBlock(10, 10, 3, 2), C2f(18, 12, 1)
        self.heads = nn.ModuleList([nn.Conv2d(10, 3 * 7, 1), nn.Conv2d(12, 3 * 7, 1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        low = self.stage1(self.focus(x))
        high = self.lateral(self.sppf(self.stage2(self.down(low))))
        low = self.top(torch.cat([F.interpolate(high, scale_factor=2.0, mode="nearest"), low], 1))
        high = self.bottom(torch.cat([self.again(low), high], 1))
        outs = []
        for head, level in zip(self.heads, (low, high), strict=True):
            n, _, h, w = level.shape
            outs.append(head(level).view(n, 3, 7, h, w).permute(0, 1, 3, 4, 2).contiguous())
        return outs


class Exchange(nn.Module):
    """Wang et al. (2019): two resolutions, each the sum of what both become at its own."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.keep = nn.ModuleList([conv(a, a), conv(b, b)])
        self.up, self.down = nn.Sequential(conv(b, a, 1), nn.BatchNorm2d(a)), conv(a, b, stride=2)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        high, low = (F.relu(keep(y)) + y for keep, y in zip(self.keep, x, strict=True))
        raised = F.interpolate(self.up(low), size=high.shape[-2:], mode="bilinear", align_corners=False)
        return [F.relu(high + raised), F.relu(low + self.down(high))]


class HRNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.transition = conv(3, 6), nn.ModuleList([conv(6, 8), conv(6, 12, stride=2)])
        self.stages, self.out = nn.Sequential(Exchange(8, 12), Exchange(8, 12)), nn.Conv2d(20, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        high, low = self.stages([branch(x) for branch in self.transition])
        low = F.interpolate(low, size=high.shape[2:], mode="bilinear", align_corners=True)
        return self.out(torch.cat([high, low], 1))


class Flow(nn.Module):
    """Teed and Deng (2020), one level: all pairs of places correlated, looked up around a flow, refined by a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.context = nn.Sequential(conv(3, 8, stride=2), nn.ReLU(), conv(8, 10)), conv(3, 14, stride=2)
        self.motion = conv(9 + 2, 5)
        self.z, self.r, self.q = (conv(6 + 13, 6) for _ in range(3))
        self.flow = conv(6, 2)

    def lookup(self, volume: Tensor, coords: Tensor) -> Tensor:
        n, h, w, _ = coords.shape
        steps = torch.linspace(-1, 1, 3, dtype=coords.dtype, device=coords.device)
        offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)
        around = coords.reshape(n * h * w, 1, 1, 2) + offsets
        scale = torch.tensor([w - 1, h - 1], dtype=coords.dtype, device=coords.device)
        seen = F.grid_sample(volume, 2 * around / scale - 1, align_corners=True)
        return seen.view(n, h, w, 9).permute(0, 3, 1, 2)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = self.features(torch.cat([first, second])).chunk(2, dim=0)
        n, _, h, w = a.shape
        volume = (a.flatten(2).transpose(1, 2) @ b.flatten(2) / 10**0.5).view(n * h * w, 1, h, w)
        hidden, context = torch.split(self.context(first), [6, 8], dim=1)
        hidden, context = hidden.tanh(), context.relu()
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        start = torch.stack([xs, ys], -1).to(first).expand(n, h, w, 2)
        flow = torch.zeros_like(start)
        for _ in range(2):
            seen = self.lookup(volume, start + flow)
            motion = self.motion(torch.cat([seen, flow.permute(0, 3, 1, 2)], 1)).relu()
            both = torch.cat([hidden, context, motion], 1)
            z, r = self.z(both).sigmoid(), self.r(both).sigmoid()
            q = self.q(torch.cat([r * hidden, context, motion], dim=1)).tanh()
            hidden = (1 - z) * hidden + z * q
            flow = flow + self.flow(hidden).permute(0, 2, 3, 1)
        return flow


SPECIMENS: dict[str, Specimen] = {
    "U-Net": Specimen(
        UNet,
        {"down.0.0": 6, "down.0.3": 6, "down.1.0": 10, "down.1.3": 10, "bottom.0": 14, "bottom.3": 14, "up.0.bias": 10,
         "merge.0.0": 10, "merge.0.3": 10, "up.1.bias": 6, "merge.1.0": 6, "merge.1.3": 6},
        inputs=images(44), others=(images(44, batch=3), images(60, 52, batch=1)),
    ),
    "style-based generator": Specimen(
        StyleGenerator,
        {"mapping.0": 10, "mapping.2": 10, "convs.0.affine": 12, "convs.0.bias": 12, "convs.1.bias": 8,
         "convs.2.bias": 6},
        {"start[2]": "a convolution runs along", "start[3]": "a convolution runs along"},
        inputs=torch.randn(2, 6), others=(torch.randn(5, 6), torch.randn(1, 6))
    ),
    # a cross-stage block has the halves of its first layer and its last layer
    "YOLO neck": Specimen(
        YoloNeck,
        {"focus.0": 8, "down.0": 12, "sppf.cv1.0": 6, "sppf.cv2.0": 12, "lateral.0": 8, "again.0": 10}
        | {f"{block}.{name}": n for block, half in (("stage1", 4), ("stage2", 6), ("top", 5), ("bottom", 6))
           for name, n in (("cv1.0", half), ("cv1.0#2", half), ("cv2.0", 2 * half))},
        inputs=images(32), others=(images(32, batch=3), images(48, 40, batch=1)),
    ),
    "HRNet exchange": Specimen(HRNet, {"stem": 6, "transition.0": 8, "transition.1": 12}),
    # the hidden state, the context beside it; places that are looked up, and the flow, are no channels
    "optical flow": Specimen(
        Flow, {"features.0": 8, "features.2": 10, "context": 6, "context#2": 8, "motion": 5},
        {"motion.weight[1]": "fixed size", "flow.weight[0]": "fixed size", "flow.bias[0]": "fixed size"},
        inputs={"first": images(16), "second": images(16) * 0.5},
        others=({"first": images(20, batch=1), "second": images(20, batch=1)},),
    ),
    "SegNet": Specimen(SegNet, {"down": 8, "bottom": 10}),  # a channel comes up at the places of the same one
}  # fmt: skip
