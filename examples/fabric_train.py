"""GradAug in a loop of Lightning Fabric's: precision and processes are Fabric's.

python examples/fabric_train.py                      # --devices 2: two processes, --precision bf16-mixed, ...
"""

from __future__ import annotations

import argparse

import lightning
import torch
from digits import loaders
from mymodel import DigitNet

import gradaug
import netslim


def train(fabric: lightning.Fabric, epochs: int = 4) -> netslim.SlimNet:
    fabric.seed_everything(0)  # the same weights in every process
    training = fabric.setup_dataloaders(loaders()[0])
    net = netslim.convert(DigitNet(width=8), torch.randn(2, 1, 32, 32)).train()
    model, optimizer = fabric.setup(net, torch.optim.AdamW(net.parameters(), lr=1e-2))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * len(training))
    ga = gradaug.GradAug(net, mode="both", forward=model, backward=fabric.backward)
    for images, labels in (batch for _ in range(epochs) for batch in training):
        ga.step(images, labels, optimizer)
        schedule.step()
    return net


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--precision", default="32-true")
    fabric = lightning.Fabric(accelerator="cpu", **vars(parser.parse_args()))
    fabric.launch()
    net = train(fabric).eval()
    with torch.no_grad():
        hits = [net(images).argmax(1) == labels for images, labels in loaders()[1]]
    fabric.print(f"validation top-1 {100 * torch.cat(hits).float().mean():.2f} %")
