"""GradAug in a training loop of one's own: convert, one object, one call per step.

python examples/train_loop.py
"""

from __future__ import annotations

import torch
from mymodel import DigitNet

import gradaug
import netslim
from gradaug import data


def train(steps: int = 100) -> netslim.SlimNet:
    """A network trained on scikit-learn's digits."""
    source = data.load("digits", shape=(1, 32, 32))
    net = netslim.convert(DigitNet(), torch.randn(2, 1, 32, 32))
    ga = gradaug.GradAug(net, mode="both")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    net.train()
    for images, labels in data.train_batches(source, batch_size=32, seed=0, start=0, stop=steps):
        optimizer.zero_grad()
        ga.backward(images, labels)
        optimizer.step()
    return net


if __name__ == "__main__":
    validation = data.load("digits", shape=(1, 32, 32)).validation
    print(f"validation top-1 {gradaug.score(train(), data.evaluation_batches(validation)).top1:.2f} %")
