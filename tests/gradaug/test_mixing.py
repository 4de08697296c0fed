"""Mixed images have their labels mixed alike; views of a sub-network repeat themselves."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F

import gradaug
import netslim
from gradaug.config.registry import VIEWS
from gradaug.config.settings import TrainConfig
from gradaug.regularizers.cutout import cutout
from gradaug.regularizers.hooks import Regularizers
from gradaug.regularizers.mixing import pasted
from gradaug.subnets.views import views

IMAGES = torch.arange(1.0, 9).view(8, 1, 1, 1) * torch.ones(8, 3, 16, 16)
LABELS = torch.arange(8)


def shares(images: torch.Tensor) -> torch.Tensor:
    """How much of each source image, told by its value, is in each image."""
    return torch.stack([(images[:, 0] == value).float().mean((1, 2)) for value in range(1, 9)], 1)


def test_cutmix_labels_are_the_pasted_areas() -> None:
    mix = Regularizers(TrainConfig(regularizers=("cutmix",)), 8).on_batch
    images, labels = mix(IMAGES, LABELS, (0, 1))
    torch.testing.assert_close(labels, shares(images))
    assert labels.shape == (8, 8)
    assert float(labels.max()) < 1


def test_mixup_labels_are_the_weights() -> None:
    mix = Regularizers(TrainConfig(regularizers=("mixup",)), 8).on_batch
    images, labels = mix(IMAGES, LABELS, (0, 1))
    torch.testing.assert_close(images[:, 0, 0, 0], labels @ torch.arange(1.0, 9))


def test_a_share_of_the_batches_is_mixed_and_labels_stay_numbers_otherwise() -> None:
    mix = Regularizers(TrainConfig(regularizers=("mixup", "cutmix"), mix_probability=0.5), 8).on_batch
    found = [mix(IMAGES, LABELS, (step,)) for step in range(200)]
    plain = [images for images, labels in found if not labels.is_floating_point()]
    assert 70 < len(plain) < 130
    assert all(torch.equal(images, IMAGES) for images in plain)
    whole = [bool((images == images.round()).all()) for images, labels in found if labels.is_floating_point()]
    assert 0.25 < sum(whole) / len(whole) < 0.75  # CutMix keeps pixel values, Mixup does not


def test_a_key_repeats_a_mixture_and_the_global_generator_stays() -> None:
    mix, state = Regularizers(TrainConfig(regularizers=("cutmix", "cutout")), 8).on_batch, torch.get_rng_state()
    (first, _), (again, _), (other, _) = (mix(IMAGES, LABELS, key) for key in ((3, 1), (3, 1), (3, 2)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_regularizers_at_blocks_leave_a_batch_alone() -> None:
    images, labels = Regularizers(TrainConfig(regularizers=("shakedrop",)), 8).on_batch(IMAGES, LABELS, (0,))
    assert images is IMAGES
    assert labels is LABELS


def test_cutout_is_a_square_that_may_stick_out() -> None:
    images = cutout(torch.ones(300, 1, 16, 16), 0.5, random.Random(0))
    rows, columns = ((images[:, 0] == 0).any(dim).sum(1) for dim in (2, 1))
    areas = (images == 0).sum((1, 2, 3))
    assert torch.equal(areas, rows * columns)
    assert int(areas.max()) in (64, 72, 81)  # 8 pixels, or 9 where rounding falls so
    assert int(areas.min()) < 32
    assert 0.12 < float((images == 0).float().mean()) < 0.25


def test_pasted_images_have_their_probabilities_mixed_by_area() -> None:
    images, mix = pasted(IMAGES, random.Random(4))
    torch.testing.assert_close(mix(torch.eye(8)), shares(images))


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_changes_images_and_repeats_itself(name: str) -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.2, 0.3)
    normalised = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    view = views(TrainConfig(views=(name,)), mean, std)
    assert view is not None
    (first, mix), (again, _) = (view(normalised, (0, 5, 0, 1)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == images.shape
    assert not torch.equal(first, normalised)
    assert any(not torch.equal(first, view(normalised, (0, step, 0, 1))[0]) for step in range(6, 9))
    assert (mix is not None) == (name == "cutmix")


def test_no_views_are_none() -> None:
    assert views(TrainConfig(), (0.0,), (1.0,)) is None


def test_a_sub_network_of_mixed_images_learns_the_mixed_answer(net: netslim.SlimNet) -> None:
    net.eval()
    images, labels = torch.randn(6, 1, 12, 12), torch.arange(6)
    view = views(TrainConfig(views=("cutmix",)), (0.0,), (1.0,))
    ga = gradaug.GradAug(net, num_subnets=1, round_to=1, resolutions=(), view=view)
    draw = gradaug.Draw(0.5)
    losses = ga.backward(images, labels, [draw])
    assert view is not None
    mixed, mix = view(images, (0, 0, 0, 0))
    assert mix is not None
    with torch.no_grad(), net.sub(0.5):
        answer = net(mixed).log_softmax(1)
    expected = F.kl_div(answer, mix(losses.output.softmax(1)), reduction="batchmean")
    torch.testing.assert_close(losses.subnets[0], expected)
