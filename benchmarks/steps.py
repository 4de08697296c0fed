"""The steps that benchmarks/step.py times: plain, converted, GradAug, its limit, and the original code's way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import original
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

import netslim
from gradaug import GradAug
from gradaug.models import WideResNet
from gradaug.subnets.sampler import Draw, draw
from gradaug.training.compilation import Compilation
from gradaug.training.configured import PRECISIONS

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "65536")
"""Kernels that oneDNN keeps on a CPU. The sizes of all steps together are more than its usual 1024, and each step would
have to make its own anew, since another one came between."""

WIDTHS_FROM = 0.8
SUBNETS = 3
CLASSES = 10

Draws = tuple[Draw, ...]
Step = Callable[[Draws], object]


def convnext() -> nn.Module:
    """ConvNeXt-Atto: torchvision's smallest has eight times as many weights."""
    settings = [
        CNBlockConfig(40, 80, 2),
        CNBlockConfig(80, 160, 2),
        CNBlockConfig(160, 320, 6),
        CNBlockConfig(320, None, 2),
    ]
    return ConvNeXt(settings, num_classes=CLASSES)


NETWORKS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "WRN-16-4": (32, lambda: WideResNet(16, 4, CLASSES)),
    "WRN-28-2": (32, lambda: WideResNet(28, 2, CLASSES)),
    "ResNet-18": (64, lambda: models.resnet18(num_classes=CLASSES)),
    "MobileNetV2": (64, lambda: models.mobilenet_v2(num_classes=CLASSES)),
    "ConvNeXt-Atto": (64, convnext),
}
"""Side of the images, and the network."""


@dataclass(frozen=True)
class Setting:
    """What is the same for all rows of a table."""

    batch_size: int
    rounds: int
    round_to: int
    device: str
    threads: int
    compile: bool = False
    amp: str = "none"

    def autocast(self) -> torch.autocast:
        """Around forward and loss of a pass of a plain network."""
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.amp == "bf16")

    @property
    def different(self) -> int:
        """Steps whose draws take turns in the rounds; a compiled limit compiles every network of each of them."""
        return 1 if self.compile else 3

    def now(self) -> float:
        """Seconds: of the processor on one thread, else of the clock, the GPU's work included."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.process_time() if self.device == "cpu" and self.threads == 1 else time.perf_counter()


@dataclass
class Bench:
    """The steps of one network in one mode."""

    steps: dict[str, Step]
    draws: list[Draws]


def built(network: str, mode: str, setting: Setting) -> Bench:
    """The steps by name, and the draws for them."""
    torch.manual_seed(0)
    side, make = NETWORKS[network]
    model = make()
    net = netslim.convert(model, torch.randn(2, 3, side, side), prove=False)
    images = torch.randn(setting.batch_size, 3, side, side, device=setting.device)
    labels = torch.randint(CLASSES, (setting.batch_size,), device=setting.device)
    still, last = images.contiguous(memory_format=torch.channels_last), prepared(net, setting.device)
    resolutions = (side, side * 7 // 8, side * 3 // 4)
    space = {"alpha": WIDTHS_FROM, "num_subnets": SUBNETS, "resolutions": resolutions, "round_to": setting.round_to}
    ga = GradAug(last, mode, **space, amp=PRECISIONS[setting.amp])
    draws = [draw(ga.space, 0, number) for number in range(setting.different)]
    prepared(model, setting.device)
    called = compiled(model) if setting.compile else model
    if setting.compile:
        Compilation(last).warm_up(still[:8], ga.space, setting.autocast)
    steps: dict[str, Step] = {
        "plain": plain(called, still, labels, setting),
        "converted": plain(last, still, labels, setting),
        "gradaug": subnets(ga, still, labels),
        "limit": extracted(called, last, still, labels, draws, setting),
    }
    eager = not setting.compile and setting.amp == "none"
    for name, grid in {"original": setting.round_to, "original, any": 1}.items() if eager else ():
        if known := original.slimmable(model, grid):
            steps[name] = the_originals(known.to(memory_format=torch.contiguous_format), images, labels)
    return Bench(steps, draws)


def prepared(module: nn.Module, device: str) -> nn.Module:
    return module.to(device).to(memory_format=torch.channels_last).train()


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, nesterov=True)


def plain(module: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> Step:
    optimizer = sgd(module)

    def step(_: Draws) -> None:
        optimizer.zero_grad()
        with setting.autocast():
            loss = F.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()

    return step


def subnets(ga: GradAug, images: Tensor, labels: Tensor) -> Step:
    optimizer = sgd(ga.net)

    def step(draws: Draws) -> None:
        optimizer.zero_grad()
        ga.backward(images, labels, draws)
        optimizer.step()

    return step


def compiled(module: nn.Module) -> nn.Module:
    """Compiled as a whole, for its sizes: what a person has of torch.compile who trains this network alone."""
    made: nn.Module = torch.compile(module, dynamic=False)  # type: ignore[assignment]
    return made


def extracted(
    model: nn.Module, net: netslim.SlimNet, images: Tensor, labels: Tensor, draws: list[Draws], setting: Setting
) -> Step:
    """The limit: all that can be done before is done before, the resizing and the targets too."""
    optimizer, soft = sgd(model), torch.softmax(torch.randn(len(images), CLASSES, device=images.device), 1)
    networks = {
        one: net.extract(**one.sub()).to(memory_format=torch.channels_last).train() for step in draws for one in step
    }
    if setting.compile:
        networks = {one: compiled(network) for one, network in networks.items()}
    resized = {one.resolution: of_side(images, one.resolution) for one in networks}

    def add(network: nn.Module, given: Tensor, target: Tensor) -> None:
        with setting.autocast():
            loss = F.cross_entropy(network(given), target)
        loss.backward()

    def step(draws: Draws) -> None:
        optimizer.zero_grad()
        add(model, images, labels)
        for one in draws:
            networks[one].zero_grad()
            add(networks[one], resized[one.resolution], soft)
        optimizer.step()

    return step


def of_side(images: Tensor, side: int | None) -> Tensor:
    small = F.interpolate(images, (side, side), mode="bilinear", align_corners=True) if side else images
    return small.contiguous(memory_format=torch.channels_last)


def the_originals(model: nn.Module, images: Tensor, labels: Tensor) -> Step:
    optimizer = sgd(model)
    return lambda draws: original.step(model, images, labels, draws, optimizer)
