"""GradAug in a training loop of one's own: convert, one object, one call per step.

python examples/train_loop.py
"""

from __future__ import annotations

import torch
from mymodel import DigitNet

import gradaug
import netslim


def train(steps: int = 100) -> gradaug.Score:
    """Trains on scikit-learn's digits; returns the score on the validation images."""
    source = gradaug.data.load("digits", shape=(1, 32, 32))
    net = netslim.convert(DigitNet(), torch.randn(2, 1, 32, 32))
    ga = gradaug.GradAug(net, mode="both")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    net.train()
    for images, labels in gradaug.data.train_batches(source, batch_size=32, seed=0, start=0, stop=steps):
        optimizer.zero_grad()
        ga.backward(images, labels)
        optimizer.step()
    return gradaug.score(net, gradaug.data.evaluation_batches(source.validation))


if __name__ == "__main__":
    print(f"validation top-1 {train().top1:.2f} %")
