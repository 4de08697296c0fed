"""Scores on images that were made harder: by one step against the network (FGSM), or by noise, blur and weather.

fgsm(net, batches, 0.1, source.mean, source.std)           # Goodfellow et al. 2015
corrupted(source.validation, source, "fog", severity=3)    # Hendrycks and Dietterich 2019: 15 kinds, 5 severities
"""

from __future__ import annotations

import contextlib
import functools
import random
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradaug.data import DataSource, Images, Key, evaluation_batches, one_tensor
from gradaug.evaluation.score import CLASSIFICATION, score
from gradaug.inputs import copied, device_of, on_device
from gradaug.scopes import evaluating
from gradaug.tasks.task import AnyTask, TaskScore
from netslim.errors import InputError
from netslim.extras import needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gradaug.data import Batch

SMALLEST = 32
"""Pixels that the corruptions need; smaller images are enlarged, corrupted, and made small again."""

KINDS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
SEVERITIES = (1, 2, 3, 4, 5)


def fgsm(
    net: nn.Module,
    batches: Iterable[Batch],
    epsilon: float,
    mean: Sequence[float],
    std: Sequence[float],
    task: AnyTask = CLASSIFICATION,
) -> TaskScore:
    """The score on images moved by `epsilon` (of the pixel range [0, 1]) along the sign of the loss's gradient.

    `mean`, `std`: of the normalisation, per channel; the moved pixels are clipped to [0, 1].
    """

    def attacked() -> Iterator[Batch]:
        for images, labels in batches:
            yield attack(net, one_tensor(images), one_tensor(labels), epsilon, mean, std, task), labels

    return score(net, attacked(), task=task)


def attack(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    mean: Sequence[float],
    std: Sequence[float],
    task: AnyTask = CLASSIFICATION,
) -> Tensor:
    """Normalised images (N, C, H, W) after the step, on the network's device; its gradients stay untouched."""
    device = device_of(net)
    centre, scale = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (mean, std))
    moved = copied(images, device).requires_grad_()
    with torch.enable_grad(), evaluating(net):
        loss = task.loss(net(copied(moved)), on_device(labels, device))
        (gradient,) = torch.autograd.grad(loss, moved)
    pixels = moved.detach() * scale + centre
    return ((pixels + epsilon * gradient.sign()).clamp(0, 1) - centre) / scale


class Corrupted(Images):
    """A set whose images are corrupted, each in a way of its own that the kind, the severity and its number fix."""

    def __init__(self, images: Images, source: DataSource, kind: str, severity: int) -> None:
        self.images, self.kind, self.severity = images, kind, severity
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (source.mean, source.std))

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images, labels = self.images.__getitems__(keys)
        pixels = ((one_tensor(images) * self.std + self.mean).clamp(0, 1) * 255).round().to(torch.uint8)
        made = torch.stack([self._corrupt(image, index) for image, (_, index) in zip(pixels, keys, strict=True)])
        return (made.float() / 255 - self.mean) / self.std, labels

    def _corrupt(self, image: Tensor, index: int) -> Tensor:
        channels, *size = image.shape
        if min(size) < SMALLEST:
            larger = [side * SMALLEST // min(size) for side in size]
            image = _resized(image, larger)
        colour = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
        with _seeded(f"gradaug/{self.kind}/{self.severity}/{index}"):
            made = _library()(colour, corruption_name=self.kind, severity=self.severity)
        result = torch.from_numpy(np.array(made)).permute(2, 0, 1)
        result = result if min(size) >= SMALLEST else _resized(result, size)
        return result if channels == 3 else result.float().mean(0, keepdim=True).round().to(torch.uint8)


def corrupted(
    net: nn.Module,
    source: DataSource,
    kinds: Sequence[str] = KINDS,
    severities: Sequence[int] = SEVERITIES,
    workers: int = 0,
    task: AnyTask = CLASSIFICATION,
) -> dict[str, dict[int, float]]:
    """{kind: {severity: the task's first figure}} on the corrupted validation images.

    InputError for an unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"there is no corruption {kind!r}; known are {', '.join(KINDS)}")
    _library()
    return {
        kind: {
            severity: score(
                net,
                evaluation_batches(Corrupted(source.validation, source, kind, severity), workers=workers),
                task=task,
            ).headline
            for severity in severities
        }
        for kind in kinds
    }


def mean_over(found: dict[str, dict[int, float]]) -> float:
    """Mean over kinds and severities."""
    values = [value for by_severity in found.values() for value in by_severity.values()]
    return sum(values) / len(values)


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    scaled = F.interpolate(image.float().unsqueeze(0), list(size), mode="bilinear", antialias=True)
    return scaled[0].round().clamp(0, 255).to(torch.uint8)


def _library() -> Callable[..., np.ndarray]:
    with needed("imagecorruptions-imaug", "corrupted images"):
        from imagecorruptions import corrupt
    return corrupt


@contextlib.contextmanager
def _seeded(key: str) -> Iterator[None]:
    """The library draws from four generators: numpy's old and new, Python's, numba's. Here all follow the key.

    One thread at a time, since they are the process's; new generators of other threads are what they always are.
    """
    seed, here = random.Random(key).getrandbits(32), threading.get_ident()

    def seeded(given: int | None = None) -> np.random.Generator:
        return new(seed if given is None and threading.get_ident() == here else given)

    with _one_at_a_time:
        state, own, new = np.random.get_state(), random.getstate(), np.random.default_rng
        np.random.seed(seed)
        random.seed(seed)
        _numba_seed()(seed)
        np.random.default_rng = seeded  # type: ignore[assignment]
        try:
            yield
        finally:
            np.random.default_rng = new
            np.random.set_state(state)
            random.setstate(own)


_one_at_a_time = threading.Lock()


@functools.cache
def _numba_seed() -> Callable[[int], None]:
    """Compiled code has a generator of its own, which only compiled code can seed."""
    with needed("imagecorruptions-imaug", "corrupted images"):
        from numba import njit

    return njit(_seed)


def _seed(number: int) -> None:
    np.random.seed(number)
