"""Semantic segmentation: a class for every pixel; mean intersection over union, pixel accuracy, cross-entropy.

    ga = gradaug.GradAug(net, task=Segmentation(ignore_index=255))
    losses = ga.backward(images, masks)                     # (N, C, H, W), (N, H, W)

Sub-networks see smaller images; their answer, enlarged to the full network's, is compared with it pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaug.config.values import whole
from gradaug.data.pictures import shaded
from gradaug.tasks.classification import Classification, top1_hits
from gradaug.tasks.losses import UNLABELLED, fitted, main_output
from gradaug.tasks.task import LOSS, Column, Meter, Sums, TaskScore
from netslim.errors import InputError
from netslim.extras import needed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradaug.config.settings import TrainConfig
    from gradaug.data import DataSource

MIOU, ACCURACY = Column("miou", "mIoU"), Column("pixel_accuracy", "pixel accuracy")
MIXES = ("mixup", "cutmix")
"""Regularisers that mix one label an image."""


@dataclass(frozen=True, slots=True)
class SegmentationScore(TaskScore):
    """How well a network does on a set of images, over all their labelled pixels together."""

    columns: ClassVar = (MIOU, ACCURACY, LOSS)

    miou: float
    """Intersection over union in percent, mean over the classes that the images or the answers have."""
    pixel_accuracy: float
    """Correct pixels in percent."""
    loss: float
    """Mean cross-entropy of a pixel in nats."""
    images: int


@dataclass(frozen=True)
class Segmentation(Classification):
    """Masks (N, H, W) of class numbers by logits (N, classes, H, W).

    The losses are classification's with a class for every pixel: cross-entropy over the labelled pixels, divergence
    over the class dimension, mean over all pixels.
    """

    name: ClassVar[str] = "segmentation"
    scored: ClassVar[type[TaskScore]] = SegmentationScore
    followed: ClassVar[Mapping[str, Column]] = {"right": ACCURACY}
    recorded: ClassVar[tuple[Column, ...]] = (MIOU, ACCURACY)
    rank: ClassVar[int] = 4
    form: ClassVar[str] = "segmentation needs (1, classes, H, W)"

    ignore_index: int = UNLABELLED
    """Mask value of pixels that have no label, such as 255."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "ignore_index", whole("ignore_index", self.ignore_index, UNLABELLED))

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        mixes = [name for name in MIXES if name in config.regularizers]
        if mixes:
            raise InputError(f"--regularizers {','.join(mixes)} mixes one label an image, and segmentation has masks")
        if config.views:
            raise InputError("--views may move pixels, which segmentation compares in their places: leave it out")
        if config.semi == "mean-teacher":
            raise InputError(
                "--semi mean-teacher compares an image with another crop of it, whose pixels are elsewhere: "
                "segmentation takes --semi gradaug"
            )
        return super().of(config)

    def loss(self, output: object, labels: Tensor) -> Tensor:
        return super().loss(output, self._known(labels))

    def require_target(self, target: Tensor, labels: Tensor, values: bool, moves: bool) -> None:
        if target.ndim != 4:
            raise InputError(
                f"the network returns {tuple(target.shape)}, and segmentation needs an answer for every pixel "
                "(N, classes, H, W); one answer an image is task=Classification()"
            )
        super().require_target(target, self._known(labels), values, moves)

    def train_sums(self, target: Tensor, labels: Tensor) -> Sums:
        return {"right": top1_hits(target, self._known(labels))}

    def sums(self, output: object, labels: Tensor) -> Sums:
        logits = main_output(output)
        labels = fitted(self._known(labels), logits)
        confusion = _confusion(logits.argmax(1), labels, logits.shape[1]).double()
        loss = F.cross_entropy(logits, labels, reduction="sum", ignore_index=UNLABELLED).double()
        return {"confusion": confusion, "loss": loss, "images": torch.full_like(loss, len(labels))}

    def score(self, sums: Sums) -> TaskScore:
        if not sums:
            return SegmentationScore(0.0, 0.0, 0.0, 0)
        confusion = sums["confusion"]
        right, pixels = confusion.diag(), confusion.sum().clamp(min=1)
        union = confusion.sum(0) + confusion.sum(1) - right
        miou = (right / union)[union > 0].mean() if (union > 0).any() else union.sum()
        accuracy = 100 * float(right.sum() / pixels)
        return SegmentationScore(100 * float(miou), accuracy, float(sums["loss"] / pixels), int(sums["images"]))

    def meter(self, thorough: bool = False) -> Meter[Tensor]:
        return Meter(self)

    def pictures(self, output: object, images: Tensor, labels: Tensor, source: DataSource) -> list[Tensor]:
        answers = main_output(output).argmax(1)
        triples = zip(images, self._known(labels), answers, strict=True)
        return [shaded(image, both, source.mean, source.std) for image, *both in triples]

    def _known(self, labels: Tensor) -> Tensor:
        """Masks with -100 where there is no label."""
        if not isinstance(labels, Tensor) or labels.is_floating_point() or self.ignore_index == UNLABELLED:
            return labels
        return labels.long().masked_fill(labels == self.ignore_index, UNLABELLED)


def _confusion(answers: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Pixels by true and by predicted class (classes, classes)."""
    with needed("torchmetrics", "the mean intersection over union"):
        from torchmetrics.functional.classification import multiclass_confusion_matrix
    return multiclass_confusion_matrix(answers, labels, classes, ignore_index=UNLABELLED, validate_args=False)
