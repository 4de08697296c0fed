"""The order of the images, and how processes and parts share it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradaug import data
from gradaug.data.batches import TrainSteps
from gradaug.errors import DataError
from netslim.errors import InputError


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 9))
def test_every_epoch_is_a_permutation(images: int, batch_size: int, seed: int) -> None:
    steps = TrainSteps(images, batch_size, seed, 0, 10**6)
    steps.stop = 2 * steps.per_epoch
    keys = [key for batch in steps for key in batch]
    for epoch in (0, 1):
        indices = [index for e, index in keys if e == epoch]
        assert len(indices) == len(set(indices)) == images - images % min(batch_size, images)
    assert len(list(steps)) == len(steps)


def test_starting_in_the_middle_continues_the_same_order() -> None:
    whole = list(TrainSteps(50, 8, 1, 0, 20))
    assert list(TrainSteps(50, 8, 1, 8, 20)) == whole[8:]


@pytest.fixture(scope="module")
def source() -> data.DataSource:
    return data.load("digits", (1, 8, 8), labels=100)


@pytest.mark.parametrize("stream", [data.train_batches, data.unlabelled_batches])
@pytest.mark.parametrize(("world", "parts"), [(2, 1), (1, 3), (3, 2)])
def test_shares_join_to_the_batch_of_one_process(source: data.DataSource, stream: type, world: int, parts: int) -> None:
    whole = list(stream(source, 24, 0, 3, 9))
    shares = [list(stream(source, 24, 0, 3, 9, rank=rank, world=world, parts=parts)) for rank in range(world)]
    assert all(len(share) == parts * len(whole) for share in shares)
    for step, (images, _) in enumerate(whole):
        pieces = [share[step * parts + part][0] for share in shares for part in range(parts)]
        assert torch.equal(torch.cat(pieces), images)


def test_a_batch_that_cannot_be_shared_names_the_flag(source: data.DataSource) -> None:
    with pytest.raises(InputError, match="3 processes in 2 parts; choose a --batch-size that is a multiple of 6"):
        data.train_batches(source, 32, 0, 0, 1, rank=0, world=3, parts=2)


def test_labelled_and_unlabelled_images_come_in_orders_of_their_own(source: data.DataSource) -> None:
    first, second = (list(TrainSteps(100, 10, 0, 0, 10, name)) for name in ("order", "unlabelled"))
    assert first != second
    with pytest.raises(DataError, match="digits has no images without labels; use fewer labels"):
        data.unlabelled_batches(data.load("digits", (1, 8, 8)), 10, 0, 0, 1)


def test_every_validation_image_is_seen_by_one_process(source: data.DataSource) -> None:
    shares = [list(data.evaluation_batches(source.validation, 50, rank=rank, world=3)) for rank in range(3)]
    assert sum(len(labels) for share in shares for _, labels in share) == 360
    whole = torch.cat([images for images, _ in data.evaluation_batches(source.validation)])
    joined = {image.numpy().tobytes() for share in shares for images, _ in share for image in images}
    assert joined == {image.numpy().tobytes() for image in whole}


LOST = """
import os, signal, torch
from gradaug import data

class Deadly(data.Images):
    def __len__(self):
        return 40
    def __getitems__(self, keys):
        if (0, 25) in keys:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1, 1), torch.zeros(1)

list(data.evaluation_batches(Deadly(), 10, workers=1))
"""


def test_a_lost_worker_is_a_clear_error() -> None:
    """In a process of its own: torch raises from a signal handler, now and then while the sentence is being made."""
    said = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=False).stderr
    assert "DataError: a worker that prepares images has ended" in said or "is killed by signal: Killed" in said


class Faulty(data.Images):
    """A set whose code has a bug."""

    def __len__(self) -> int:
        return 40

    def __getitems__(self, keys: object) -> data.Batch:
        raise RuntimeError("a bug")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_in_the_images_code_is_shown_as_it_is(workers: int) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        list(data.evaluation_batches(Faulty(), 10, workers=workers))
