"""Digits."""

from __future__ import annotations

import hashlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gradaug import data
from gradaug.data.digits import Digits, shift
from gradaug.errors import DataError

SHAPE = (1, 32, 32)


@pytest.fixture(scope="module")
def digits() -> data.DataSource:
    return data.load("digits", SHAPE, seed=0)


def test_the_split_never_changes(digits: data.DataSource) -> None:
    assert (len(digits.train), len(digits.validation), digits.classes) == (1437, 360, 10)
    _, labels = next(iter(data.evaluation_batches(digits.validation, 360)))
    assert labels.bincount().tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert hashlib.sha256(bytes(labels.tolist())).hexdigest()[:16] == "70ee2850bb25b543"


def test_no_image_is_in_both_parts(digits: data.DataSource) -> None:
    parts = [next(iter(data.evaluation_batches(part, 2000)))[0] for part in (digits.calibration, digits.validation)]
    train, validation = ({image.numpy().tobytes() for image in part} for part in parts)
    assert not train & validation


def test_training_images_are_standardised() -> None:
    images, _ = next(iter(data.evaluation_batches(data.load("digits", (1, 8, 8)).calibration, 1437)))
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std()) == pytest.approx(1, abs=1e-5)


def test_images_have_the_networks_size_and_channels() -> None:
    images, labels = next(iter(data.evaluation_batches(data.load("digits", (3, 20, 28)).validation, 7)))
    assert images.shape == (7, 3, 20, 28)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.equal(images[:, 0], images[:, 2])


def test_augmentation_depends_on_seed_epoch_and_image_alone(digits: data.DataSource) -> None:
    def image(source: data.DataSource, *keys: data.Key) -> torch.Tensor:
        return source.train.__getitems__(keys)[0][0]

    first = image(digits, (3, 17), (3, 4))
    assert torch.equal(first, image(digits, (3, 17)))
    others = [image(digits, (epoch, 17)) for epoch in range(4, 12)]
    assert sum(torch.equal(first, other) for other in others) <= 1
    assert not all(
        torch.equal(image(data.load("digits", SHAPE, seed=9), (e, 17)), image(digits, (e, 17))) for e in range(9)
    )


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=4))
def test_shift_moves_down_and_right(offsets: list[tuple[int, int]]) -> None:
    images = torch.arange(len(offsets) * 35.0).view(-1, 1, 5, 7) + 1
    moved = shift(images, offsets)
    for before, after, (down, right) in zip(images[:, 0], moved[:, 0], offsets, strict=True):
        y0, y1, x0, x1 = max(0, down), min(5, 5 + down), max(0, right), min(7, 7 + right)
        expected = torch.zeros(5, 7)
        expected[y0:y1, x0:x1] = before[y0 - down : y1 - down, x0 - right : x1 - right]
        assert torch.equal(after, expected)


def test_workers_change_nothing_and_the_global_generator_stays(digits: data.DataSource) -> None:
    state = torch.get_rng_state()
    alone, helped = (list(data.train_batches(digits, 64, 0, 20, 25, workers=workers)) for workers in (0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for (images, labels), (expected, expected_labels) in zip(helped, alone, strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


def test_calibration_is_at_most_one_epoch_without_augmentation(digits: data.DataSource) -> None:
    batches = list(data.calibration_batches(digits, 64, 1000, seed=0))
    assert len(batches) == 22
    pool, _ = next(iter(data.evaluation_batches(digits.calibration, 1437)))
    assert (pool == batches[0][0][0]).flatten(1).all(1).any()


def test_an_unshifted_digit_is_the_resized_one(digits: data.DataSource) -> None:
    part = digits.validation
    assert isinstance(part, Digits)
    images, _ = part.__getitems__([(0, 5)])
    expected = F.interpolate(part.pixels[5:6], (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(images, (expected - part.mean) / part.std)


def test_unknown_data_lists_what_is_known() -> None:
    with pytest.raises(DataError, match=r"unknown data 'digit'; did you mean digits"):
        data.load("digit", SHAPE)
    with pytest.raises(DataError, match=r"unknown data 'imagenet:/x'; known are .*cifar10, .*digits, .*folder"):
        data.load("imagenet:/x", SHAPE)


@pytest.mark.parametrize("shape", [(2, 32, 32), (16,), (1, 32)])
def test_an_input_that_digits_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="1 or 3 channels, but the network takes inputs of shape"):
        data.load("digits", shape)
