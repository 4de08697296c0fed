"""GradAug with timm's parts: a model of timm, its optimizer factory with layer decay, schedule, ModelEma and Mixup.

python examples/timm_train.py
torchrun --nproc-per-node 2 examples/timm_train.py      # two processes
"""

from __future__ import annotations

import argparse

import timm
import torch
from digits import loaders
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, accuracy, init_distributed_device, random_seed
from torch.nn.parallel import DistributedDataParallel

import gradaug
import netslim


def train(epochs: int = 6, distributed: bool = False) -> torch.nn.Module:
    """The running mean of the weights of a small ResNet."""
    random_seed(0)
    training, _ = loaders(distributed=distributed)
    model = timm.create_model("resnet18", in_chans=1, num_classes=10, channels=(8, 16, 32, 64), stem_width=8)
    net = netslim.convert(model, torch.randn(2, 1, 32, 32))
    network = DistributedDataParallel(net) if distributed else net
    ga = gradaug.GradAug(network, mode="both", criterion=SoftTargetCrossEntropy())
    optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-2, weight_decay=0.05, layer_decay=0.9)
    updates = len(training)
    schedule, _ = create_scheduler_v2(
        optimizer, "cosine", epochs, warmup_epochs=1, step_on_epochs=False, updates_per_epoch=updates
    )
    mixup, ema = Mixup(mixup_alpha=0.2, label_smoothing=0.1, num_classes=10), ModelEmaV3(net, decay=0.9)
    step = 0
    for epoch in range(epochs):
        if distributed:
            training.sampler.set_epoch(epoch)
        for images, labels in training:
            schedule.step_update(step)
            ga.step(*mixup(images, labels), optimizer)
            ema.update(net, step)
            step += 1
    return ema.module


if __name__ == "__main__":
    args = argparse.Namespace(device="cpu")
    init_distributed_device(args)  # what timm's train.py begins with: torchrun's processes, if there are any
    net = train(distributed=args.distributed).eval()
    _, validation = loaders()
    images, labels = (torch.cat(part) for part in zip(*validation, strict=True))
    if args.rank == 0:
        with torch.no_grad():
            print(f"validation top-1 {accuracy(net(images), labels)[0]:.2f} %")
    if args.distributed:
        torch.distributed.destroy_process_group()
