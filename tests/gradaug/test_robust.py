"""Attacks, corruptions, and what gradaug eval makes of them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import netslim
from gradaug import data
from gradaug.config.settings import TrainConfig
from gradaug.evaluation.assessment import Assessment, assess
from gradaug.evaluation.robustness import KINDS, Corrupted, _seeded, attack, corrupted, fgsm, mean_over
from gradaug.plots import plot
from netslim.errors import InputError

MEAN, STD = (0.4,), (0.5,)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def normal(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels - MEAN[0]) / STD[0]


def test_an_attack_moves_every_pixel_against_a_linear_classifier() -> None:
    net, pixels, labels = linear(), torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 1])
    moved = attack(net, normal(pixels), labels, 0.1, MEAN, STD) * STD[0] + MEAN[0]
    difference = net[1].weight[1] - net[1].weight[0]  # type: ignore[index]
    for image, sign in zip(moved, (1, -1), strict=True):
        torch.testing.assert_close(image.flatten(), 0.5 + 0.1 * sign * difference.sign())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_attacked_pixels_stay_in_range() -> None:
    pixels = torch.rand(3, 1, 4, 4)
    moved = attack(linear(), normal(pixels), torch.zeros(3, dtype=torch.long), 0.7, MEAN, STD) * STD[0] + MEAN[0]
    assert float(moved.min()) >= -1e-6
    assert float(moved.max()) <= 1 + 1e-6


def test_attacks_lower_the_accuracy_and_none_leaves_it() -> None:
    net = linear()
    images = normal(torch.rand(200, 1, 4, 4))
    labels = net(images).argmax(1)
    scores = [fgsm(net, [(images, labels)], epsilon, MEAN, STD).top1 for epsilon in (0.0, 0.05, 0.3)]
    assert scores[0] == 100
    assert scores[0] > scores[1] > scores[2]


@pytest.fixture(scope="module")
def source() -> data.DataSource:
    return data.load("digits", (1, 16, 16))


@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_change_images_alike_every_time(source: data.DataSource, kind: str) -> None:
    states = np.random.get_state()[1].tolist(), random.getstate()
    keys = [(0, index) for index in range(4)]
    clean, labels = source.validation.__getitems__(keys)
    first, again, strong = (
        Corrupted(source.validation, source, kind, severity).__getitems__(keys) for severity in (1, 1, 5)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], labels)
    assert first[0].shape == clean.shape
    assert float((first[0] - clean).abs().mean()) > 0
    pixels = strong[0] * source.std[0] + source.mean[0]
    assert float(pixels.min()) >= -1e-5
    assert float(pixels.max()) <= 1 + 1e-5
    assert float((strong[0] - clean).abs().mean()) > float((first[0] - clean).abs().mean())
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states


def test_colour_images_of_full_size_are_corrupted(tmp_path: Path) -> None:
    colour = data.load("synthetic:2x4", (3, 40, 48))
    images, _ = Corrupted(colour.train, colour, "fog", 3).__getitems__([(0, 0), (0, 1)])
    assert images.shape == (2, 3, 40, 48)


def test_an_unknown_corruption_lists_the_known_ones(source: data.DataSource) -> None:
    with pytest.raises(InputError, match="no corruption 'rain'; known are gaussian_noise"):
        corrupted(linear(), source, ["rain"])


def test_an_assessment_has_what_was_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    net = netslim.convert(model, torch.randn(2, 1, 16, 16))
    small = data.load("digits", (1, 16, 16))
    found = assess(net, small, TrainConfig(), (1.0, 0.5), epsilons=(0.1,), kinds=("contrast",), severities=(1, 5))
    values = json.loads(json.dumps(found.to_dict()))
    assert len(values["scores"]) == 2
    assert values["scores"][0]["calibration_error"] >= 0
    assert set(values["fgsm"]) == {"0.1"}
    assert values["corruptions"]["contrast"].keys() == {"1", "5"}
    assert values["mean_corruption_top1"] == pytest.approx(mean_over(found.corruptions))
    for name, part in {"all.png": found, "sizes.png": Assessment(found.scores)}.items():
        plot(part, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_new_generators_of_other_threads_stay_what_they_are() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with _seeded("key"), ThreadPoolExecutor(1) as pool:
        here = [np.random.default_rng().integers(1 << 62) for _ in range(2)]
        there = [pool.submit(lambda: np.random.default_rng().integers(1 << 62)).result() for _ in range(2)]
    assert here[0] == here[1]
    assert len({here[0], *there}) == 3
