"""What comes in: two images that meet, one image only, no batch at all, lengths and masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, Written, conv, head, images


class Tracker(nn.Module):
    """Features of a small image are the kernels that run over the features of a large one, channel by channel."""

    def __init__(self, number: Callable[[Tensor, Tensor], int], correlate: Callable[..., Tensor] = F.conv2d) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1))
        self.adjust, self.head = nn.Conv2d(12, 12, 1), nn.Conv2d(12, 2, 1)
        self.number, self.correlate = number, correlate

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        small, large = self.features(small), self.adjust(self.features(large))
        kernels, over = small.reshape(-1, 1, *small.shape[2:]), large.reshape(1, -1, *large.shape[2:])
        found = self.correlate(over, kernels, groups=self.number(large, kernels))
        return self.head(found.reshape(large.shape[0], -1, *found.shape[2:]))


def _pair(batch: int) -> dict[str, Tensor]:
    return {"small": images(12, batch=batch), "large": images(24, batch=batch)}


def _tracker(number: Callable[[Tensor, Tensor], int], batch: int = 2, **options: Any) -> Specimen:
    groups = {"features.0": 8, "features.2": 12}
    return Specimen(lambda: Tracker(number, **options), groups, inputs=_pair(batch), others=(_pair(1), _pair(3)))


def _one(flatten: Callable[[Tensor], Tensor], image: Tensor) -> Specimen:
    """A network for one image of 6x6: everything is flattened."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(m.hidden(flatten(m.norm(m.stem(x)).relu())).relu())

    named: dict[str, nn.Module] = {"norm": nn.BatchNorm2d(6) if image.dim() == 4 else nn.Identity()}
    layers = named | {"stem": conv(3, 6), "hidden": nn.Linear(6 * 36, 12), "head": head(12)}
    return Specimen(lambda: Written(forward, **layers), {"stem": 6, "hidden": 12}, inputs=image, others=(2 * image,))


def _squeezed(m: Any, x: Tensor) -> Tensor:
    return m.head(m.stem(x).mean((2, 3), keepdim=True).squeeze())


class Counted(nn.Module):
    """Features up to each sequence's length only, the last of them, and those that a mask leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.mix, self.head = nn.Embedding(9, 6), nn.Conv1d(6, 8, 3, padding=1), head(8)

    def forward(self, words: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        h = self.mix(self.words(words).mT).relu().mT
        valid = torch.arange(words.shape[1])[None] < lengths[:, None]
        last = h.take_along_dim((lengths - 1)[:, None, None], 1)[:, 0]
        return self.head(
            (h * valid[..., None]).sum(1) / lengths[:, None] + last + h.masked_fill(~mask[..., None], 0).mean(1)
        )


def _counted(*lengths: int, longest: int) -> dict[str, Tensor]:
    words = torch.arange(len(lengths) * longest).view(-1, longest) % 9
    return {"words": words, "lengths": torch.tensor(lengths), "mask": words > 2}


SPECIMENS = {
    "cross-correlation": _tracker(lambda large, _: large.shape[0] * large.shape[1]),
    "cross-correlation by the number of kernels": _tracker(lambda _, kernels: kernels.shape[0]),
    "cross-correlation by the number of weights": _tracker(
        lambda _, kernels: kernels.numel() // (kernels.shape[2] * kernels.size(3))
    ),
    "cross-correlation of one pair": _tracker(lambda large, _: large.shape[0] * large.shape[1], 1),
    "transposed cross-correlation": _tracker(
        lambda large, _: large.shape[0] * large.shape[1], correlate=F.conv_transpose2d
    ),
    "one image flattened": _one(torch.flatten, images(6, batch=1)),
    "one image in one row": _one(lambda h: h.view(1, -1), images(6, batch=1)),
    "one image taken out": _one(lambda h: h[0].flatten(), images(6, batch=1)),
    "image without a batch": _one(torch.flatten, images(6, batch=1)[0]),
    "squeezed to one answer": Specimen(
        lambda: Written(_squeezed, stem=conv(3, 6), head=head(6)),
        {"stem": 6}, inputs=images(6), others=(images(8, batch=1), images(5, batch=3)),
    ),
    "lengths and a mask": Specimen(
        Counted, {"words.weight.1": 6, "mix": 8}, {"words.weight[0]": "picked by an index"},
        inputs=_counted(7, 5, 2, longest=7), others=(_counted(1, longest=4), _counted(3, 6, longest=6)),
    ),
}  # fmt: skip
