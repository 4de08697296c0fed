"""Peak memory of a GradAug step beside that of a plain step of the same network.

    python benchmarks/memory.py                           # on the CPU: live tensor storage, counted exactly
    python benchmarks/memory.py --device cuda             # what CUDA's allocator reports

A ResNet-50 on 32 images of 224x224 by default. A step passes 1 + n networks, one graph at a time. What it needs beyond
a plain step are the gradients, which are there while the sub-networks run, and slices of weights: nothing beside the
feature maps of a training batch, but visible where few and small images meet many parameters.

On the CPU the storage of every tensor that is alive is added up after each operation, which leaves out what a kernel
uses inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

import netslim
from gradaug import GradAug
from netslim.source.spec import load_source

MODES = ("randwidth", "randdepth", "both")


class Live(TorchDispatchMode):
    """Bytes of the storages made inside, now and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for key in [key for key, (ref, _) in self._storages.items() if ref.expired()]:
            self.now -= self._storages.pop(key)[1]
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._storages:
                self._storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
                self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        return out


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def peak(step: Callable[[], Any], device: str) -> int:
    """Bytes that `step` has in use at most, above what was in use before it."""
    if device == "cpu":
        with Live() as live:
            step()
        return live.peak
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def ratios(model: nn.Module, images: Tensor, labels: Tensor, device: str) -> dict[str, tuple[int, int]]:
    """{mode: bytes of the GradAug step, bytes of the plain step}."""
    net = netslim.convert(model, images[:2].cpu()).to(device).train()

    def plain() -> None:
        net.zero_grad()
        F.cross_entropy(net(images), labels).backward()

    found = {}
    for mode in MODES:
        ga = GradAug(net, mode)
        net.zero_grad()
        reference = peak(plain, device)
        net.zero_grad()
        found[mode] = peak(lambda ga=ga: ga.backward(images, labels), device), reference  # type: ignore[misc]
    return found


@click.command()
@click.option("--model", default="torchvision:resnet50", show_default=True, help="A SOURCE as netslim takes it.")
@click.option("--side", default=224, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(model: str, side: int, batch_size: int, device: str) -> None:
    """Peak memory of a GradAug step beside that of a plain step."""
    network = load_source(model).model
    images, labels = torch.randn(batch_size, 3, side, side, device=device), torch.zeros(batch_size, dtype=torch.long)
    table = Table("mode", "plain MiB", "GradAug MiB", "ratio", title=f"{model}, {batch_size} images of {side}x{side}")
    for mode, (step, plain) in ratios(network, images, labels.to(device), device).items():
        table.add_row(mode, f"{plain / 2**20:.1f}", f"{step / 2**20:.1f}", f"{step / plain:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
