"""The steps that are timed beside each other do the same work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import original
import pytest
import step
import steps
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models
from torchvision.models.resnet import BasicBlock

import netslim
from gradaug import GradAug
from gradaug.models import ResNetCifar, WideResNet
from gradaug.subnets.sampler import Draw

SMALL: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "wide": (16, lambda: WideResNet(10, 2, steps.CLASSES)),
    "basic": (16, lambda: models.ResNet(BasicBlock, [2, 1, 1, 1], num_classes=steps.CLASSES)),
    "inverted": (
        32,
        lambda: models.MobileNetV2(steps.CLASSES, inverted_residual_setting=[[1, 16, 1, 1], [6, 32, 2, 2]]),
    ),
}
SETTING = steps.Setting(batch_size=2, rounds=1, round_to=8, device="cpu", threads=1)


def flops(run: steps.Step, draws: steps.Draws) -> int:
    with FlopCounterMode(display=False) as counter:
        run(draws)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("network", "mode"), [*(("wide", mode) for mode in step.MODES), ("basic", "both"), ("inverted", "both")]
)
def test_the_limit_and_the_original_count_the_flops_of_gradaug(
    network: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "NETWORKS", SMALL)
    bench = steps.built(network, mode, SETTING)
    assert bench.steps.keys() == {"plain", "converted", "gradaug", "limit", "original", "original, any"}
    assert len(set(bench.draws)) == SETTING.different
    for draws in bench.draws:
        counts = {name: flops(run, draws) for name, run in bench.steps.items()}
        assert counts["gradaug"] == counts["limit"] == counts["original"]
        assert counts["plain"] == counts["converted"] < counts["gradaug"]
        assert (mode == "randdepth") == (counts["original, any"] == counts["original"])


@pytest.mark.parametrize("network", ["wide", "basic"])
def test_the_originals_way_has_the_gradient_of_gradaug(network: str) -> None:
    """At one resolution; the original resizes in another way."""
    torch.manual_seed(0)
    side, make = SMALL[network]
    model = make().double()
    net = netslim.convert(model, torch.randn(2, 3, side, side).double(), prove=False).train()
    ga = GradAug(net, "both", resolutions=())
    block = net.blocks[-1].name
    draws = (Draw(0.8, (), None, 8), Draw(0.6, (block,), None, 8), Draw(1.0, (block,), None, 8))
    images, labels = torch.randn(4, 3, side, side).double(), torch.tensor([1, 2, 3, 0])
    ga.backward(images, labels, draws)
    copied = original.slimmable(model.train(), 8)
    assert copied is not None
    original.step(copied, images, labels, draws, torch.optim.SGD(copied.parameters(), lr=0.0))
    mine = dict(net.named_parameters())
    for name, parameter in copied.named_parameters():
        torch.testing.assert_close(parameter.grad, mine[name].grad, msg=name)


def test_in_bf16_all_that_is_compared_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "NETWORKS", SMALL)
    bench = steps.built("wide", "randwidth", replace(SETTING, amp="bf16"))
    assert bench.steps.keys() == {"plain", "converted", "gradaug", "limit"}
    for name, run in bench.steps.items():
        with Precisions() as seen:
            run(bench.draws[0])
        assert seen.of_convolutions == {torch.bfloat16}, name


class Precisions(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.of_convolutions = set[torch.dtype]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.of_convolutions.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


def test_the_original_has_no_layers_for_others() -> None:
    assert original.slimmable(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)), 1) is None
    assert original.slimmable(steps.convnext(), 1) is None
    assert original.slimmable(ResNetCifar(8, 10), 1) is not None


def test_shares_are_those_of_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow round slows all steps; the share stays."""
    monkeypatch.setattr(steps, "NETWORKS", SMALL)
    monkeypatch.setattr(step, "NETWORKS", SMALL)
    seconds = {"plain": 1.0, "converted": 1.1, "gradaug": 4.0, "limit": 3.0, "original": 6.0, "original, any": 8.0}
    taken = iter([slow * one for slow in (1, 10, 5) for one in seconds.values()])
    monkeypatch.setattr(step, "taken", lambda *_: next(taken))
    row = step.measured("wide", "randwidth", replace(SETTING, rounds=3))
    assert row["plain_steps"] == 4
    assert row["converted"] == pytest.approx(1.1)
    assert row["of_limit"] == 0.75
    assert row["over"] == {"original": 1.5, "original, any": 2}
    assert row["of_flops"] == pytest.approx(row["flops"] / 4, rel=0.2)
    assert row["seconds"]["gradaug"] == 20
    assert 0.9 < row["memory"] < 2


def test_a_row_from_before_there_were_compiled_ones_is_one_of_uncompiled_networks() -> None:
    """Rows are found again by their setting."""
    row = {"batch_size": 2, "rounds": 1, "round_to": 8, "device": "cpu", "threads": 1}
    assert steps.Setting(**row) == SETTING != replace(SETTING, compile=True)
