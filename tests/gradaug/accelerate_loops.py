"""A loop with Accelerate's objects, as one of two processes."""

from __future__ import annotations

from accelerate import Accelerator
from torch import Tensor, nn

import gradaug
from gradaug.distributed.processes import current

from .loops import SETTINGS, batches, network, optimizer_of


def in_a_pair() -> list[Tensor]:
    """Weights after training on this process's halves, from weights that differ between the processes."""
    rank, accelerator = current().rank, Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = network(seed=rank)
    model, optimizer = accelerator.prepare(net, optimizer_of(net))
    ga = gradaug.GradAug(model, backward=accelerator.backward, **SETTINGS)
    for i, (images, labels) in enumerate(batches()):
        ga.seek(i // 2)  # both parts of a step have its sub-networks
        with accelerator.accumulate(model):
            ga.backward(images[rank::2], labels[rank::2])
            if accelerator.sync_gradients:
                nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    return [parameter.detach() for parameter in net.parameters()]
