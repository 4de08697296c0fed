"""Small networks that answer every pixel, in the forms in which libraries do, and what two processes do with one."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gradaug
import netslim
from gradaug.distributed import processes as sync
from gradaug.tasks import Segmentation

SIDE, CLASSES = 24, 4
FORMS = ("tensor", "dict", "dict of parts", "model output", "dataclass", "list")


@dataclass
class Output(OrderedDict):  # type: ignore[type-arg]
    """As transformers' ModelOutput: a dict of what is there, with the same as attributes."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: Tensor | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                self[field.name] = value


@dataclass
class Answer:
    """A class of one's own."""

    logits: Tensor
    aux: Tensor


class Heads(nn.Module):
    """Features at a quarter of the size, a main and an auxiliary head."""

    def __init__(self, form: str, classes: int = CLASSES, channels: int = 1) -> None:
        super().__init__()
        self.form = form
        self.stem = nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.body = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.head, self.aux = nn.Conv2d(12, classes, 1), nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Any:
        early = F.relu(self.stem(x))
        main, aux = self.head(F.relu(self.body(early))), self.aux(early)
        if self.form == "dict":  # as torchvision
            size = x.shape[-2:]
            main, aux = (F.interpolate(y, size=size, mode="bilinear", align_corners=False) for y in (main, aux))
        if self.form in ("dict", "dict of parts"):
            return OrderedDict([("aux", aux), ("out", main)])
        if self.form == "model output":
            return Output(logits=main, hidden_states=early)
        if self.form == "dataclass":
            return Answer(main, aux)
        return main if self.form == "tensor" else [main, aux]


@functools.cache
def _converted(form: str, classes: int, channels: int) -> netslim.SlimNet:
    torch.manual_seed(0)
    return netslim.convert(Heads(form, classes, channels), torch.randn(2, channels, SIDE, SIDE))


def network(form: str, classes: int = CLASSES, channels: int = 1) -> netslim.SlimNet:
    """A copy of its own."""
    return copy.deepcopy(_converted(form, classes, channels)).train()


def batch(count: int = 4) -> tuple[Tensor, Tensor]:
    """Images in double precision, and masks of which every image has another share without labels (255)."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, SIDE, SIDE, dtype=torch.float64, generator=generator)
    masks = torch.randint(CLASSES, (count, SIDE, SIDE), generator=generator)
    for index in range(count):
        masks[index, : 3 * index] = 255
    return images, masks


def step_of(net: netslim.SlimNet, **options: Any) -> gradaug.GradAug:
    task = Segmentation(ignore_index=255)
    return gradaug.GradAug(net, task=task, resolutions=(16,), round_to=1, alpha=0.5, **options)


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def settings(place: str, **changed: Any) -> gradaug.TrainConfig:
    """A short run on files."""
    return gradaug.TrainConfig(
        **{
            "task": "segmentation", "data": f"voc-masks:{place}", "mode": "randwidth", "num_subnets": 2, "round_to": 1,
            "resolutions": (SIDE, 16), "epochs": 2, "batch_size": 4, "lr": 0.05, "device": "cpu", "ema": 0.5,
            "calibration_batches": 1, "checkpoint_every": 1, **changed,
        }
    )  # fmt: skip


def run(place: str, out: Path, **changed: Any) -> tuple[dict[str, Tensor], Any]:
    """Weights and score of a run on the files in `place`."""
    net = network("dict of parts", 21, 3)
    result = gradaug.train(net, settings(place, **changed), out)
    return dict(net.state_dict()), result.after


def share(place: str, out: Path) -> dict[str, Any]:
    """What one of two processes does: with its half of a batch, of equal masks and of other ones; and a run."""
    world = sync.current()
    found: dict[str, Any] = {"run": run(place, out)}
    images, masks = batch()
    for name, labels in (("equal", masks[:1].expand(4, -1, -1)), ("unequal", masks)):
        net = network("dict").double()
        mine = slice(2 * world.rank, 2 * world.rank + 2)
        step_of(net).backward(images[mine], labels[mine])
        sync.average_gradients(net.parameters())
        found[name] = gradients(net)
    return found
