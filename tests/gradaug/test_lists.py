"""Batches of images of sizes of their own, with a dict of boxes each: every way a set is put together or prepared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradaug import data
from gradaug.config.settings import TrainConfig
from gradaug.data.batches import Shares, TrainSteps
from gradaug.data.packing import Packed, packed
from gradaug.data.source import Joined, Subset, Unlabelled
from gradaug.errors import DataError
from gradaug.regularizers.hooks import Regularizers


class Boxed(data.Images):
    """Image n has n % 3 objects, and a value that says which it is and in which epoch."""

    together = 4

    def __init__(self, count: int, groups: Sequence[int] | None = None) -> None:
        self.count, self.groups = count, groups

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, keys: Sequence[data.Key]) -> data.Batch:
        images = [torch.full((3, 4 + index % 2, 5), float(100 * epoch + index)) for epoch, index in keys]
        return images, [self.target(index) for _, index in keys]

    def target(self, index: int) -> data.Target:
        n = index % 3
        return {
            "boxes": torch.full((n, 4), float(index)),
            "labels": torch.full((n,), index),
            "masks": torch.ones(n, 4 + index % 2, 5, dtype=torch.uint8),
            "image_id": torch.tensor(index),
        }


def source(count: int = 20, groups: Sequence[int] | None = None) -> data.DataSource:
    images = Boxed(count, groups)
    return data.DataSource("boxed", 3, images, images, images, Unlabelled(images), task="detection")


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return len(first) == len(second) and all(map(same, first, second))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_lists(workers: int) -> None:
    alone, helped = (list(data.train_batches(source(), 8, 0, 0, 4, workers)) for workers in (0, workers))
    assert same(alone, helped)
    assert isinstance(helped[0][1], list)
    assert helped[0][1][0].keys() == {"boxes", "labels", "masks", "image_id"}


def test_a_worker_sends_few_tensors_and_nothing_of_them_is_lost() -> None:
    batch = Boxed(60).__getitems__([(1, index) for index in range(60)])
    sent = packed(batch)
    assert isinstance(sent, Packed)
    assert len(sent.buffers) == 3
    assert same(sent.unpacked(), batch)
    pair = torch.zeros(2, 3), torch.zeros(2)
    assert packed(pair) is pair


def test_pinning_a_packed_batch_pins_its_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    batch = Boxed(9).__getitems__([(0, index) for index in range(9)])
    sent = packed(batch)
    assert isinstance(sent, Packed)
    images, _ = sent.pin_memory().unpacked()
    assert same(sent.pin_memory().unpacked(), batch)
    storages = {tensor.untyped_storage().data_ptr() for tensor in pinned}
    assert {image.untyped_storage().data_ptr() for image in images} <= storages


def test_sets_of_lists_are_put_together_as_sets_of_tensors_are() -> None:
    first, second = Boxed(6), Boxed(5)
    images, targets = Joined([Subset(first, [4, 2]), second]).__getitems__([(0, 1), (0, 3), (0, 0)])
    assert [int(image[0, 0, 0]) for image in images] == [2, 1, 4]
    assert [int(target["image_id"]) for target in targets] == [2, 1, 4]
    images, targets = data.TwoViews(first).__getitems__([(0, 1), (0, 5)])
    assert [int(image[0, 0, 0]) for image in images] == [1, 5, -99, -95]
    assert len(targets) == 4
    assert Unlabelled(first).__getitems__([(0, 1), (0, 2)])[1] == [{}, {}]


def test_lists_and_tensors_do_not_join() -> None:
    digits = data.load("digits", (1, 8, 8)).train
    with pytest.raises(DataError, match="images with boxes are a list, and here they are to be one tensor"):
        Joined([Boxed(3), digits]).__getitems__([(0, 0), (0, 4)])


def test_batches_to_evaluate_are_as_large_as_the_set_says() -> None:
    sizes = [len(images) for images, _ in data.evaluation_batches(Subset(Boxed(10), range(9)))]
    assert sizes == [4, 4, 1]
    assert [len(images) for images, _ in data.evaluation_batches(Boxed(10), 5)] == [5, 5]
    digits = data.load("digits", (1, 8, 8))
    assert [len(images) for images, _ in data.evaluation_batches(digits.validation)] == [256, 104]
    assert Joined([digits.train, Boxed(3)]).together == 4
    assert len(list(data.calibration_batches(source(), 8, 5, 0))) == 2


def test_what_changes_batches_of_tensors_refuses_lists_and_the_rest_lets_them_pass() -> None:
    images, targets = Boxed(3).__getitems__([(0, 0), (0, 1)])
    kept = Regularizers(TrainConfig(regularizers=("dropblock",)), 3).on_batch(images, targets, (0, 0))
    assert kept == (images, targets)
    with pytest.raises(DataError, match="images with boxes are a list"):
        Regularizers(TrainConfig(regularizers=("cutout",)), 3).on_batch(images, targets, (0, 0))


# ------------------------------------------------------------------------------------------------------ groups


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 12), st.integers(0, 9))
def test_batches_hold_one_group_and_every_image_at_most_once(groups: list[int], size: int, seed: int) -> None:
    plain, steps = (TrainSteps(len(groups), size, seed, 0, 10**6, groups=g) for g in (None, groups))
    assert plain.per_epoch == steps.per_epoch
    plain.stop = steps.stop = 2 * steps.per_epoch
    batches = list(steps)
    assert [len(batch) for batch in batches] == [steps.batch_size] * len(batches)
    for epoch in (0, 1):
        found = [batch for batch in batches if batch[0][0] == epoch]
        assert sorted(key for batch in found for key in batch) == sorted(k for b in plain for k in b if k[0] == epoch)
        assert sum(len({groups[index] for _, index in batch}) > 1 for batch in found) < len(set(groups))


def test_groups_keep_the_order_on_a_resume_and_are_shared_evenly() -> None:
    groups = [index % 3 for index in range(50)]
    whole = list(TrainSteps(50, 8, 1, 0, 20, groups=groups))
    assert list(TrainSteps(50, 8, 1, 9, 20, groups=groups)) == whole[9:]
    shares = [list(Shares(TrainSteps(50, 8, 1, 0, 20, groups=groups), rank, 2, 2)) for rank in range(2)]
    joined = [[*shares[0][2 * i], *shares[0][2 * i + 1], *shares[1][2 * i], *shares[1][2 * i + 1]] for i in range(20)]
    assert joined == whole


def test_a_set_that_says_groups_gets_batches_of_them() -> None:
    groups = [index % 2 for index in range(20)]
    for batches in (
        data.train_batches(source(20, groups), 5, 0, 0, 4),
        data.unlabelled_batches(source(20, groups), 5, 0, 0, 4),
        data.calibration_batches(source(20, groups), 5, 4, 0),
    ):
        shapes = [{image.shape for image in images} for images, _ in batches]
        assert [len(sizes) for sizes in shapes] == [1, 1, 1, 1]
    assert Subset(Boxed(4, [7, 8, 9, 7]), [2, 0]).groups == [9, 7]
    assert Joined([Boxed(2), Boxed(2, [5, 6])]).groups == [0, 0, 5, 6]
    assert data.TwoViews(Boxed(2, [5, 6])).groups == [5, 6]
