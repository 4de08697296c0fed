"""Batches in an order that is a function of (seed, step), shared by processes, cut into parts, prepared by workers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from gradaug.data.packing import Packed, packed
from gradaug.data.source import Batch, DataSource, Images, Key
from gradaug.errors import DataError
from netslim.errors import InputError

T = TypeVar("T")


def train_batches(
    source: DataSource, batch_size: int, seed: int, start: int, stop: int, workers: int = 0, pin: bool = False,
    rank: int = 0, world: int = 1, parts: int = 1,
) -> Batches:  # fmt: skip
    """The batches of steps `start` to `stop` - 1, one iterator across epochs, so that workers start once.

    `batch_size` images make a step: each of `world` processes gets its share of them, in `parts` pieces. InputError
    when they cannot be shared evenly.
    """
    steps = TrainSteps(len(source.train), batch_size, seed, start, stop, groups=source.train.groups)
    return Batches(source.train, Shares(steps, rank, world, parts), workers, pin)


def unlabelled_batches(
    source: DataSource, batch_size: int, seed: int, start: int, stop: int, workers: int = 0, pin: bool = False,
    rank: int = 0, world: int = 1, parts: int = 1,
) -> Batches:  # fmt: skip
    """The same over the images without labels, in an order of their own; DataError when the source has none."""
    if source.unlabelled is None:
        raise DataError(
            f"{source.name} has no images without labels; use fewer labels (--labels), or --semi none, or data that "
            "comes with some (stl10)"
        )
    images = source.unlabelled
    steps = TrainSteps(len(images), batch_size, seed, start, stop, "unlabelled", images.groups)
    return Batches(source.unlabelled, Shares(steps, rank, world, parts), workers, pin)


def evaluation_batches(
    images: Images, batch_size: int | None = None, workers: int = 0, rank: int = 0, world: int = 1
) -> Batches:
    """All images once, in their order; of several processes each gets every `world`-th.

    Batches are of as many images as the set says (`Images.together`) unless `batch_size` is given.
    """
    batch_size = batch_size or images.together
    keys = [(0, index) for index in range(rank, len(images), world)]
    return Batches(images, [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)], workers)


def calibration_batches(source: DataSource, batch_size: int, count: int, seed: int) -> Batches:
    """`count` batches of training images, at most one epoch, in an order fixed by the seed."""
    steps = TrainSteps(len(source.calibration), batch_size, seed, 0, count, groups=source.calibration.groups)
    steps.stop = min(count, steps.per_epoch)
    return Batches(source.calibration, steps)


def steps_per_epoch(source: DataSource, batch_size: int) -> int:
    """Optimizer steps in an epoch; the incomplete last batch is left out."""
    return TrainSteps(len(source.train), batch_size, 0, 0, 0).per_epoch


class TrainSteps(Sampler[list[Key]]):
    """Keys of every training batch: each epoch a new permutation, its incomplete last batch left out.

    With `groups`, a number for every image, the images of a batch have one number as far as that is possible.
    """

    def __init__(
        self, images: int, batch_size: int, seed: int, start: int, stop: int, stream: str = "order",
        groups: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.images, self.seed, self.stream, self.groups = images, seed, stream, groups
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
                order = self._order(epoch)
            first = place * self.batch_size
            yield [(epoch, index) for index in order[first : first + self.batch_size]]

    def _order(self, epoch: int) -> list[int]:
        order = permutation(self.images, self.seed, epoch, self.stream)[: self.per_epoch * self.batch_size]
        return order if self.groups is None else grouped(order, self.groups, self.batch_size)


class Shares(Sampler[list[Key]]):
    """One process's share of every batch, piece by piece."""

    def __init__(self, steps: TrainSteps, rank: int, world: int, parts: int) -> None:
        if steps.batch_size % (world * parts):
            raise InputError(
                f"a batch of {steps.batch_size} images cannot be shared evenly by {world} processes in {parts} parts; "
                f"choose a --batch-size that is a multiple of {world * parts}"
            )
        self.steps, self.rank, self.parts = steps, rank, parts
        self.size = steps.batch_size // (world * parts)

    def __len__(self) -> int:
        return self.parts * len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        for keys in self.steps:
            first = self.rank * self.parts * self.size
            yield from (keys[first + i * self.size : first + (i + 1) * self.size] for i in range(self.parts))


def permutation(count: int, seed: int, epoch: int, stream: str = "order") -> list[int]:
    """The order of the images in one epoch."""
    generator = torch.Generator().manual_seed(random.Random(f"gradaug/{stream}/{seed}/{epoch}").getrandbits(32))
    return torch.randperm(count, generator=generator).tolist()


def grouped(order: Sequence[int], groups: Sequence[int], size: int) -> list[int]:
    """The same images, batch by batch of one group each, in the order in which these become complete.

    What is left over of the groups makes the last batches, fewer than there are groups, neighbours together.
    """
    waiting: dict[int, list[int]] = {}
    done: list[int] = []
    for index in order:
        batch = waiting.setdefault(groups[index], [])
        batch.append(index)
        if len(batch) == size:
            done += waiting.pop(groups[index])
    return done + [index for group in sorted(waiting) for index in waiting[group]]


class Batches:
    """An iterable of batches, prepared by workers; a damaged image or a lost worker is a DataError."""

    def __init__(
        self, images: Images, keys: Sampler[list[Key]] | list[list[Key]], workers: int = 0, pin: bool = False
    ) -> None:
        # Its own generator: a loader draws a base seed when it starts, which must not move the global random state.
        self.loader = DataLoader(
            Guarded(images),
            batch_sampler=keys,
            collate_fn=_as_is,
            num_workers=workers,
            pin_memory=pin,
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.loader)
        while True:
            try:
                batch = next(batches, None)
            except (RuntimeError, OSError, EOFError) as error:
                own = str(error).startswith("Caught") or not self.loader.num_workers  # an error of the images' code
                if own or (isinstance(error, RuntimeError) and "DataLoader worker" not in str(error)):
                    raise
                raise DataError(
                    "a worker that prepares images has ended (is the machine short of memory, or of shared memory?); "
                    "take fewer --workers"
                ) from error
            if batch is None:
                return
            if isinstance(batch, DataError):
                raise batch
            yield batch.unpacked() if isinstance(batch, Packed) else batch


class Guarded(Dataset[Batch | Packed[Batch] | DataError]):
    """Hands an error over as a value, so that its sentence comes through from a worker as it is; a worker packs."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitems__(self, keys: Sequence[Key]) -> Batch | Packed[Batch] | DataError:
        try:
            batch = self.images.__getitems__(keys)
            return batch if get_worker_info() is None else packed(batch)
        except DataError as error:
            return error


def _as_is(batch: T) -> T:
    """The images come as a batch already."""
    return batch
