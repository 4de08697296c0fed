"""Images, in an order and with augmentations that are functions of (seed, epoch, index) alone.

    source = load("cifar100:~/data", shape=(3, 32, 32), seed=0)
    for images, labels in train_batches(source, batch_size=128, seed=0, start=0, stop=100): ...

A new data set is a file here and a row in gradaug/config/registry.py: a function of (what stands behind the colon,
input shape, seed, number of labels, augmentation) that gives a :class:`DataSource`.
"""

from __future__ import annotations

from gradaug.config.registry import SOURCES as SOURCES
from gradaug.data.batches import Batches as Batches
from gradaug.data.batches import calibration_batches as calibration_batches
from gradaug.data.batches import evaluation_batches as evaluation_batches
from gradaug.data.batches import steps_per_epoch as steps_per_epoch
from gradaug.data.batches import train_batches as train_batches
from gradaug.data.batches import unlabelled_batches as unlabelled_batches
from gradaug.data.digits import digits as digits
from gradaug.data.source import Batch as Batch
from gradaug.data.source import DataSource as DataSource
from gradaug.data.source import Images as Images
from gradaug.data.source import Key as Key
from gradaug.data.source import Target as Target
from gradaug.data.source import TwoViews as TwoViews
from gradaug.data.source import one_tensor as one_tensor
from gradaug.errors import DataError
from netslim.errors import did_you_mean


def load(
    spec: str, shape: tuple[int, ...], seed: int = 0, *, labels: int | None = None, augment: str = "standard"
) -> DataSource:
    """The data set `spec` (NAME or NAME:DIR) for networks with inputs of `shape` (C, H, W).

    `labels`: use this many labels, as many of each class; the other training images are ``unlabelled``. `augment`:
    "standard", "color" (folders: the paper's ImageNet jitter too), "scale" (photographs with boxes: a random scale too)
    or "none". DataError says where data was looked for
    and how to get it, or why it does not fit the network.
    """
    name, _, where = spec.partition(":")
    if name not in SOURCES:
        hint = did_you_mean(name, SOURCES, 1) or f"; known are {', '.join(sorted(SOURCES))}"
        raise DataError(f"unknown data {spec!r}{hint}")
    found: DataSource = SOURCES[name].load()(where, shape, seed, labels, augment)
    return found
