"""GradAug with timm's parts: a model of timm, its optimizer factory with layer decay, schedule, ModelEma and Mixup.

python examples/timm_train.py
"""

from __future__ import annotations

import timm
import torch
from digits import loaders
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, accuracy, random_seed

import gradaug
import netslim


def train(epochs: int = 5) -> torch.nn.Module:
    """The running mean of the weights of a small ResNet."""
    random_seed(0)
    training, _ = loaders()
    model = timm.create_model("resnet18", in_chans=1, num_classes=10, channels=(8, 16, 32, 64), stem_width=8)
    net = netslim.convert(model, torch.randn(2, 1, 32, 32))
    ga = gradaug.GradAug(net, mode="both", criterion=SoftTargetCrossEntropy())
    optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-2, weight_decay=0.05, layer_decay=0.9)
    updates = len(training)
    schedule, _ = create_scheduler_v2(
        optimizer, "cosine", epochs, warmup_epochs=1, step_on_epochs=False, updates_per_epoch=updates
    )
    mixup, ema = Mixup(mixup_alpha=0.2, label_smoothing=0.1, num_classes=10), ModelEmaV3(net, decay=0.9)
    for step, (images, labels) in enumerate(batch for _ in range(epochs) for batch in training):
        schedule.step_update(step)
        ga.step(*mixup(images, labels), optimizer)
        ema.update(net, step)
    return ema.module


if __name__ == "__main__":
    _, validation = loaders()
    net = train().eval()
    images, labels = (torch.cat(part) for part in zip(*validation, strict=True))
    with torch.no_grad():
        print(f"validation top-1 {accuracy(net(images), labels)[0]:.2f} %")
