"""Resizing the sub-networks' images."""

from __future__ import annotations

import pytest
import torch

from gradaug.subnets.resize import default_resolutions, resize
from netslim.errors import InputError


def test_corners_are_kept() -> None:
    images = torch.randn(2, 3, 32, 32)
    small = resize(images, 24)
    assert small.shape == (2, 3, 24, 24)
    torch.testing.assert_close(small[..., ::23, ::23], images[..., ::31, ::31])


def test_the_full_size_and_no_size_are_the_same_tensor() -> None:
    images = torch.randn(2, 3, 32, 32)
    assert resize(images, 32) is images
    assert resize(images, None) is images


def test_the_shorter_side_is_meant() -> None:
    assert resize(torch.randn(1, 3, 32, 64), 24).shape == (1, 3, 24, 48)


def test_memory_format_survives() -> None:
    images = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    assert resize(images, 24).is_contiguous(memory_format=torch.channels_last)


def test_sequences_have_no_resolution() -> None:
    with pytest.raises(InputError, match=r"not inputs of shape \(2, 3, 32\)"):
        resize(torch.randn(2, 3, 32), 24)


@pytest.mark.parametrize(("side", "expected"), [(32, (32, 28, 24)), (224, (224, 196, 168)), (1, (1,))])
def test_default_resolutions(side: int, expected: tuple[int, ...]) -> None:
    assert default_resolutions(side) == expected
