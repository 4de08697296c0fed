"""Semantic segmentation: a class for every pixel; mean intersection over union, accuracies, cross-entropy.

    ga = gradaug.GradAug(net, task=Segmentation(ignore_index=255))
    losses = ga.backward(images, masks)                     # (N, C, H, W), (N, H, W)

A network may return logits (N, classes, h, w), a mapping with auxiliary heads ({"out": ..., "aux": ...}, torchvision's)
or a library's object with `logits`. Logits of a part of the size, such as SegFormer's quarter, are enlarged to the
masks before they are compared with them. Sub-networks see smaller images; their main answer, enlarged to the full
network's, is compared with it pixel by pixel. What auxiliary heads answer is learned from masks alone, in the full
network's pass: they are there to train the backbone, and have no answer that a sub-network would need to give.
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
from gradaug.tasks.losses import UNLABELLED, enlarged, fitted, task_loss
from gradaug.tasks.outputs import main_output, tensors_of
from gradaug.tasks.task import LOSS, Column, Meter, Sums, TaskScore
from netslim.errors import InputError
from netslim.extras import needed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradaug.config.settings import TrainConfig
    from gradaug.data import DataSource

MIOU, ACCURACY = Column("miou", "mIoU"), Column("pixel_accuracy", "pixel accuracy")
CLASSES = Column("class_accuracy", "class accuracy")
AUXILIARY_WEIGHT = 0.5
"""Weight of each auxiliary head's cross-entropy, that of torchvision's reference training of FCN and DeepLabV3."""
MIXES = ("mixup", "cutmix")
"""Regularisers that mix one label an image."""


@dataclass(frozen=True, slots=True)
class SegmentationScore(TaskScore):
    """How well a network does on a set of images, over all their labelled pixels together."""

    columns: ClassVar = (MIOU, ACCURACY, CLASSES, LOSS)

    miou: float
    """Intersection over union in percent, mean over the classes that the images or the answers have."""
    pixel_accuracy: float
    """Correct pixels in percent."""
    class_accuracy: float
    """Correct pixels of a class in percent, mean over the classes that the images have."""
    loss: float
    """Mean cross-entropy of a pixel in nats."""
    images: int


def pixel_loss(output: object, masks: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of the labelled pixels in nats, plus 0.5 times that of each auxiliary head.

    `masks` (N, H, W); heads (N, classes, h, w) are enlarged to them. Auxiliary heads are the output's other pictures
    with as many channels as the main one. Raises what :func:`gradaug.tasks.losses.task_loss` raises, and InputError
    for a picture whose sides are not one part of the masks'.
    """
    main, *others = tensors_of(output)
    heads = [main, *(each for each in others if each.ndim == 4 and each.shape[:2] == main.shape[:2])]
    return task_loss([enlarged(head, masks) for head in heads], masks, smoothing, AUXILIARY_WEIGHT)


@dataclass(frozen=True)
class Segmentation(Classification):
    """Masks (N, H, W) of class numbers by logits (N, classes, h, w), h and w being H and W or one part of them.

    The losses are classification's with a class for every pixel: :func:`pixel_loss` over the labelled pixels, where an
    auxiliary head counts half; divergence over the class dimension, mean over all pixels of the main logits. Figures
    are those of the main logits at the masks' size. A criterion of one's own gets the output as it is.
    """

    name: ClassVar[str] = "segmentation"
    scored: ClassVar[type[TaskScore]] = SegmentationScore
    followed: ClassVar[Mapping[str, Column]] = {"right": ACCURACY}
    recorded: ClassVar[tuple[Column, ...]] = (MIOU, ACCURACY)
    rank: ClassVar[int] = 4
    form: ClassVar[str] = "segmentation needs (1, classes, H, W)"

    criterion: Callable[[object, Tensor], Tensor] = pixel_loss
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

    def beside(self, output: object, target: Tensor) -> tuple[object, Tensor]:
        """Both at the size of the finer picture, as the loss enlarges them to the masks."""
        logits = main_output(output)
        coarser = logits.shape[-2:].numel() < target.shape[-2:].numel()
        return (enlarged(logits, target), target) if coarser else (logits, enlarged(target, logits))

    def require_target(self, target: Tensor, labels: Tensor, values: bool, moves: bool) -> None:
        if target.ndim != 4:
            raise InputError(
                f"the network returns {tuple(target.shape)}, and segmentation needs an answer for every pixel "
                "(N, classes, H, W); one answer an image is task=Classification()"
            )
        super().require_target(target, self._known(labels), values, moves)

    def train_sums(self, target: Tensor, labels: Tensor) -> Sums:
        return {"right": top1_hits(enlarged(target, labels), self._known(labels))}

    def sums(self, output: object, labels: Tensor) -> Sums:
        logits = enlarged(main_output(output), labels)
        labels = fitted(self._known(labels), logits)
        confusion = _confusion(logits.argmax(1), labels, logits.shape[1]).double()
        loss = F.cross_entropy(logits, labels, reduction="sum", ignore_index=UNLABELLED).double()
        return {"confusion": confusion, "loss": loss, "images": torch.full_like(loss, len(labels))}

    def score(self, sums: Sums) -> TaskScore:
        if not sums:
            return SegmentationScore(0.0, 0.0, 0.0, 0.0, 0)
        confusion = sums["confusion"]
        right, pixels = confusion.diag(), confusion.sum().clamp(min=1)
        own = confusion.sum(1)
        return SegmentationScore(
            _mean_share(right, confusion.sum(0) + own - right),
            100 * float(right.sum() / pixels),
            _mean_share(right, own),
            float(sums["loss"] / pixels),
            int(sums["images"]),
        )

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


def _mean_share(right: Tensor, of: Tensor) -> float:
    """Mean of the classes' shares in percent, over those that are there; 0 where none is."""
    there = of > 0
    return 100 * float((right[there] / of[there]).mean()) if there.any() else 0.0


def _confusion(answers: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Pixels by true and by predicted class (classes, classes)."""
    with needed("torchmetrics", "the mean intersection over union"):
        from torchmetrics.functional.classification import multiclass_confusion_matrix
    return multiclass_confusion_matrix(answers, labels, classes, ignore_index=UNLABELLED, validate_args=False)
