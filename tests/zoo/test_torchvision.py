"""Groups of well-known networks, worked out by hand; their elastic share; and the proof of a fixed sample."""

from __future__ import annotations

import copy
import random

import pytest
import torch
import torchvision
from torch import Tensor

import netslim
from netslim.cost import elastic_share
from netslim.proof.equivalence import draw_counts
from netslim.proof.masked import masked_run
from netslim.proof.random_weights import Balance, randomize

# A group is an axis: a convolution's output, shared by whatever is added to it or works channel by channel on it.
GROUPS = {
    "resnet18": 1 + 8 + 3,  # stem and stage 1 are one sum; 8 blocks with one inner axis; stages 2 to 4
    "resnet50": 1 + 16 * 2 + 4,  # stem, two inner axes per bottleneck, four stages
    "resnext50_32x4d": 1 + 13 + 3 * 2 + 4,  # 13 bottlenecks drop whole groups; the last 3 drop within both sides
    "densenet121": 1 + 58 * 2 + 3,  # stem, 2 per dense layer, 3 transitions
    "mobilenet_v2": 1 + 16 + 7 + 1,  # stem, 16 expansions (the first block has none), 7 stages, head
    "mobilenet_v3_large": 1 + 14 + 5 + 1 + 1 + 8,  # stem = stage 1, expansions, stages, head, classifier, squeezes
    "efficientnet_b0": 1 + 15 + 7 + 1 + 16,  # stem, expansions, stages, head, squeezes
    "squeezenet1_0": 1 + 8 * 3,  # stem, then squeeze and two expansions per fire module
    "mnasnet1_0": 1 + 16 + 7 + 1,  # stem, expansions, stages, head
    "vgg16_bn": 13 + 2,  # convolutions, hidden linear layers
    "alexnet": 5 + 2,
    "regnet_y_400mf": 1 + 4 + 16 + 16 + 1,  # stem, stages, squeezes, a group count per block; stage 1 (6 groups of 8
    # channels) drops within the groups instead, on both sides of its grouped convolution
    "googlenet": 3 + 9 * 6 + 2 * 2,  # stem, six convolutions per inception, convolution and linear per auxiliary head
    "inception_v3": 5 + 3 * 7 + 4 + 4 * 10 + 6 + 2 * 9 + 2,  # stem, blocks A B C D E, auxiliary head
    "convnext_tiny": 4 + 18,  # stages, inner axis of each block
    # stem, inner axis of each block, head. A stage's output is cut in two by each block after the first: the half that
    # passes through is doubled by the shuffle and halved again (58: 29, 14, 7 | 6; 116: 58, 29, 14, 7 | 6, 3; 232: 116,
    # 58, 29 | 29), and a single channel that a cut runs through stays.
    "shufflenet_v2_x1_0": 1 + 16 + 1 + 4 + 5 + 4,
}  # fmt: skip

# With every group at half width. GoogLeNet and Inception have three (two) classifiers, whose classes stay: see below.
MOST = {
    "resnet50": 0.28, "densenet121": 0.29, "mobilenet_v3_large": 0.32, "shufflenet_v2_x1_0": 0.41,
    "resnext50_32x4d": 0.28, "convnext_tiny": 0.28, "efficientnet_b0": 0.33,
}  # fmt: skip

ALL = (
    "resnet18 resnet50 resnext50_32x4d densenet121 mobilenet_v2 mobilenet_v3_large shufflenet_v2_x1_0 efficientnet_b0 "
    "googlenet inception_v3 squeezenet1_0 regnet_y_400mf mnasnet1_0 vgg16_bn alexnet convnext_tiny"
).split()
SAMPLE = {"resnet18": 64, "densenet121": 64, "shufflenet_v2_x1_0": 64, "mobilenet_v3_large": 64, "googlenet": 96,
          "convnext_tiny": 64}  # fmt: skip


def build(name: str) -> torch.nn.Module:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **options)


def side(name: str) -> int:
    return 299 if name == "inception_v3" else 224


@pytest.mark.parametrize("name", GROUPS)
def test_the_groups_are_those_of_theory(name: str) -> None:
    with torch.device("cpu" if "regnet" in name else "meta"):  # RegNet's constructor reads a tensor's values
        model = build(name)
    plan, _ = netslim.analyse(model, torch.empty(1, 3, side(name), side(name), device="meta"))
    assert len(plan.groups) == GROUPS[name]
    assert not plan.unknown


@pytest.mark.parametrize("name", MOST)
def test_half_of_every_group_keeps_few_parameters(name: str) -> None:
    net = netslim.convert(build(name), torch.empty(1, 3, side(name), side(name)), prove=False)
    assert elastic_share(net, 0.5).params_share <= MOST[name]


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "vgg16_bn", "resnet50"])
def test_half_of_every_group_keeps_what_theory_keeps(name: str) -> None:
    """All widths are even and only images and classes are fixed: a matrix keeps a quarter, or a half at either end."""
    model = build(name)
    kept = sum(p.numel() / 2 ** sum(n not in FIXED for n in p.shape[:2]) for p in model.parameters())
    net = netslim.convert(model, torch.empty(1, 3, side(name), side(name)), prove=False)
    assert elastic_share(net, 0.5).params_kept == kept


FIXED = (3, 1000)  # colours, classes


def check(name: str, side: int) -> None:
    model = build(name).eval()
    net = netslim.convert(model, torch.empty(1, 3, side, side)).eval()
    assert net.proof is not None
    assert net.proof.passed
    assert not net.proof.idle
    assert not [f for f in net.frozen if "proof" in f.reason]
    assert list(net.state_dict()) == list(model.state_dict())
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        assert torch.equal(net(images), model(images))
        with net.sub(width=0.6):
            narrow = net(images)
        torch.testing.assert_close(net.extract(width=0.6)(images), narrow, rtol=1e-6, atol=1e-6)
        assert not torch.equal(narrow, net(images))
    assert masked_difference(net, images) < 1e-4


def masked_difference(net: netslim.SlimNet, images: Tensor) -> float:
    """Between a random sub-network and the masked full network, in float32, relative to the output."""
    randomized = copy.deepcopy(net)
    randomize(randomized, seed=0)
    with torch.no_grad(), Balance(randomized):
        randomized(images)
    counts = draw_counts(randomized.groups, random.Random(0))
    (wanted,) = masked_run(randomized, [images], [((0, k),) for k in counts])
    with torch.no_grad(), randomized.sub({g.name: k for g, k in zip(randomized.groups, counts, strict=True)}):
        got = randomized(images)
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_is_proved(name: str) -> None:
    check(name, SAMPLE[name])


@pytest.mark.zoo
@pytest.mark.parametrize("name", ALL)
def test_every_network_is_proved_at_full_size(name: str) -> None:
    check(name, side(name))
