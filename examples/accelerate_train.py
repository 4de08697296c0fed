"""GradAug under Accelerate: precision, clipping, accumulation and processes are Accelerate's.

python examples/accelerate_train.py
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from digits import loaders
from mymodel import DigitNet

import gradaug
import netslim


def train(accelerator: Accelerator, epochs: int = 4) -> netslim.SlimNet:
    set_seed(0)  # the same weights in every process
    training, _ = loaders()
    net = netslim.convert(DigitNet(width=8), torch.randn(2, 1, 32, 32)).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * len(training))
    model, optimizer, training, schedule = accelerator.prepare(net, optimizer, training, schedule)
    ga = gradaug.GradAug(model, mode="both", backward=accelerator.backward)
    for images, labels in (batch for _ in range(epochs) for batch in training):
        with accelerator.accumulate(model), accelerator.autocast():
            ga.backward(images, labels)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return net


if __name__ == "__main__":
    accelerator = Accelerator(cpu=True)
    net = train(accelerator).eval()
    right = []
    with torch.no_grad():
        for images, labels in accelerator.prepare(loaders()[1]):
            hits = net(images).argmax(1) == labels
            right.append(accelerator.gather_for_metrics(hits).float())
    accelerator.print(f"validation top-1 {100 * torch.cat(right).mean():.2f} %")
    accelerator.end_training()
