"""Images, in an order and with augmentations that are functions of (seed, epoch, index) alone.

    source = load("digits", shape=(1, 32, 32), seed=0)
    for images, labels in train_batches(source, batch_size=64, seed=0, start=0, stop=100): ...

A batch is asked for by keys (epoch, index). So the number of workers, a resume in the middle of an epoch and the
training mode change neither the order nor the augmentation of the images. A new data set is one entry in ``SOURCES``.
"""

from __future__ import annotations

import difflib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gradaug.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Key = tuple[int, int]
"""(epoch, index of the image)."""
Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W) float32, labels (N,) int64."""

EVALUATION_BATCH = 256


class Images(Dataset[Batch]):
    """A set of labelled images that answers a list of keys with one batch."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        raise NotImplementedError


@dataclass(frozen=True)
class DataSource:
    """One data set, three readings of it."""

    name: str
    classes: int
    train: Images
    """Training images, augmented."""
    calibration: Images
    """The same images without augmentation, for batch-norm recalibration."""
    validation: Images


def load(spec: str, shape: tuple[int, ...], seed: int = 0) -> DataSource:
    """The data set `spec` for networks with inputs of `shape` (C, H, W); DataError if there is none that fits."""
    name = spec.partition(":")[0]
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(f"unknown data {spec!r}: {hint}known are {', '.join(sorted(SOURCES))}")
    return SOURCES[name](shape, seed)


def train_batches(
    source: DataSource,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    workers: int = 0,
    pin: bool = False,
    rank: int = 0,
    world: int = 1,
    parts: int = 1,
) -> DataLoader[Batch]:
    """The batches of steps `start` to `stop` - 1, one iterator across epochs, so that workers start once.

    `batch_size` images make a step: each of `world` processes gets its share of them, in `parts` pieces.
    """
    steps = TrainSteps(len(source.train), batch_size, seed, start, stop)
    return _loader(source.train, Shares(steps, rank, world, parts), workers, pin)


def evaluation_batches(images: Images, batch_size: int = EVALUATION_BATCH) -> DataLoader[Batch]:
    """All images once, in their order."""
    keys = [(0, index) for index in range(len(images))]
    return _loader(images, [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)])


def calibration_batches(source: DataSource, batch_size: int, count: int, seed: int) -> DataLoader[Batch]:
    """`count` batches of training images, at most one epoch, in an order fixed by the seed."""
    steps = TrainSteps(len(source.calibration), batch_size, seed, 0, count)
    steps.stop = min(count, steps.per_epoch)
    return _loader(source.calibration, steps)


def steps_per_epoch(source: DataSource, batch_size: int) -> int:
    """Optimizer steps in an epoch; the incomplete last batch is left out."""
    return TrainSteps(len(source.train), batch_size, 0, 0, 0).per_epoch


class TrainSteps(Sampler[list[Key]]):
    """Keys of every training batch: each epoch a new permutation, its incomplete last batch left out."""

    def __init__(self, images: int, batch_size: int, seed: int, start: int, stop: int) -> None:
        self.images, self.seed = images, seed
        self.batch_size = min(batch_size, images)
        self.start, self.stop = start, stop

    @property
    def per_epoch(self) -> int:
        return self.images // self.batch_size

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[Key]]:
        order: list[int] = []
        for step in range(self.start, self.stop):
            epoch, place = divmod(step, self.per_epoch)
            if place == 0 or step == self.start:
                order = permutation(self.images, self.seed, epoch)
            first = place * self.batch_size
            yield [(epoch, index) for index in order[first : first + self.batch_size]]


class Shares(Sampler[list[Key]]):
    """One process's share of every batch, piece by piece."""

    def __init__(self, steps: TrainSteps, rank: int, world: int, parts: int) -> None:
        if steps.batch_size % (world * parts):
            raise DataError(
                f"a batch of {steps.batch_size} images cannot be shared evenly by {world} processes in {parts} parts; "
                f"choose a --batch-size that is a multiple of {world * parts}"
            )
        self.steps, self.rank, self.world, self.parts = steps, rank, world, parts

    def __len__(self) -> int:
        return self.parts * len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        for keys in self.steps:
            size = len(keys) // (self.world * self.parts)
            first = self.rank * self.parts * size
            yield from (keys[first + i * size : first + (i + 1) * size] for i in range(self.parts))


def permutation(count: int, seed: int, epoch: int) -> list[int]:
    """The order of the images in one epoch."""
    generator = torch.Generator().manual_seed(random.Random(f"gradaug/order/{seed}/{epoch}").getrandbits(32))
    return torch.randperm(count, generator=generator).tolist()


def _loader(
    images: Images, batches: Sampler[list[Key]] | list[list[Key]], workers: int = 0, pin: bool = False
) -> DataLoader[Batch]:
    # Its own generator: a loader draws a base seed when it starts, which must not move the global random state.
    generator = torch.Generator()
    return DataLoader(
        images, batch_sampler=batches, collate_fn=_as_is, num_workers=workers, pin_memory=pin, generator=generator
    )


def _as_is(batch: Any) -> Any:
    """The images come as a batch already."""
    return batch


# --------------------------------------------------------------------------------------------------------------- digits


class Digits(Images):
    """scikit-learn's hand-written digits (8x8, 10 classes), resized to the network's input, standardised.

    Augmentation: a random shift by up to an eighth of the side in each direction (CIFAR's padding of 4 at 32x32), the
    background moving in. No flip: a mirrored 2 is no digit.
    """

    def __init__(
        self, pixels: Tensor, labels: Tensor, shape: tuple[int, ...], mean: float, std: float, shift_seed: int | None
    ) -> None:
        self.pixels, self.labels, self.shape = pixels, labels, shape
        self.mean, self.std = mean, std
        self.shift_seed = shift_seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        channels, height, width = self.shape
        index = torch.tensor([index for _, index in keys])
        images = F.interpolate(self.pixels[index], size=(height, width), mode="bilinear", align_corners=False)
        if self.shift_seed is not None:
            images = shift(images, [self._offset(key) for key in keys])
        images = ((images - self.mean) / self.std).expand(-1, channels, -1, -1)
        return images.contiguous(), self.labels[index]

    def _offset(self, key: Key) -> tuple[int, int]:
        rng = random.Random(f"gradaug/shift/{self.shift_seed}/{key[0]}/{key[1]}")
        return tuple(rng.randint(-(side // 8), side // 8) for side in self.shape[1:])  # type: ignore[return-value]


def shift(images: Tensor, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """Each image of (N, C, H, W) moved down and right by its offset in pixels, zeros moving in."""
    height, width = images.shape[-2:]
    pad_y = max(abs(down) for down, _ in offsets)
    pad_x = max(abs(right) for _, right in offsets)
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y))
    return torch.stack(
        [
            image[:, pad_y - down : pad_y - down + height, pad_x - right : pad_x - right + width]
            for image, (down, right) in zip(padded, offsets, strict=True)
        ]
    )


def digits(shape: tuple[int, ...], seed: int) -> DataSource:
    """1,797 digits: 1,437 to train on and 360 to validate, a stratified split that is always the same."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DataError("digits come with scikit-learn: pip install 'netslim-gradaug[train]'") from error
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"digits are images with 1 or 3 channels, but the network takes inputs of shape {shape}")
    bunch = load_digits()
    train, validation = train_test_split(range(len(bunch.target)), test_size=360, random_state=0, stratify=bunch.target)
    pixels = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    mean, std = float(pixels[train].mean()), float(pixels[train].std())

    def part(chosen: list[int], shift_seed: int | None) -> Digits:
        return Digits(pixels[chosen], labels[chosen], shape, mean, std, shift_seed)

    return DataSource("digits", 10, part(train, seed), part(train, None), part(validation, None))


SOURCES: dict[str, Callable[[tuple[int, ...], int], DataSource]] = {"digits": digits}
