"""A LightningModule with GradAug, and runs of it, also as one of two processes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

import gradaug
from gradaug.distributed.processes import current
from gradaug.lightning import GradAugMixin

from .loops import SETTINGS, batches, network, optimizer_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning
    from lightning.fabric import strategies as fabric_strategies
    from lightning.fabric.plugins.environments import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy


class Mine(GradAugMixin, lightning.LightningModule):
    def __init__(self, schedules: Any = None, seed: int = 0, **options: Any) -> None:
        super().__init__()
        self.net, self.schedules = network(seed), schedules
        self.use_gradaug(self.net, **(SETTINGS | options))
        self.rates: list[float] = []

    def configure_optimizers(self) -> Any:
        optimizer = optimizer_of(self)
        return ([optimizer], self.schedules(optimizer)) if self.schedules else optimizer

    def on_train_batch_end(self, *_: Any) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])


def fitted(module: Mine, folder: Path, given: Any = None, resume: Any = None, **options: Any) -> Any:
    """The trainer, after an epoch over `given` batches; nothing is written or shown unless `options` say so."""
    quiet = {f"enable_{name}": False for name in ("progress_bar", "model_summary", "checkpointing")} | {"logger": False}
    common = {"max_epochs": 1, "accelerator": "cpu", "devices": 1, "default_root_dir": folder}
    trainer = lightning.Trainer(**(common | quiet | options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader(given or batches(), batch_size=None), ckpt_path=resume)
    return trainer


def in_a_pair() -> tuple[list[Tensor], dict[str, float]]:
    """Weights after training by "ddp" on this process's halves, from weights that differ between the processes."""
    rank = current().rank
    halves = [(images[rank::2], labels[rank::2]) for images, labels in batches()]
    module = Mine(seed=rank)
    strategy = DDPStrategy(cluster_environment=TorchElasticEnvironment(), process_group_backend="gloo")
    options = {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2, "use_distributed_sampler": False, "devices": 2}
    trainer = fitted(module, Path("nowhere"), halves, strategy=strategy, barebones=False, **options)
    return [p.detach() for p in module.parameters()], {k: float(v) for k, v in trainer.callback_metrics.items()}


def fabric_in_a_pair() -> list[Tensor]:
    """The same with Fabric, whose module stands around "ddp"."""
    rank, cluster = current().rank, TorchElasticEnvironment()
    strategy = fabric_strategies.DDPStrategy(cluster_environment=cluster, process_group_backend="gloo")
    fabric = lightning.Fabric(accelerator="cpu", devices=2, strategy=strategy)
    fabric.launch()
    net = network(seed=rank)
    model, optimizer = fabric.setup(net, optimizer_of(net))
    ga = gradaug.GradAug(net, forward=model, backward=fabric.backward, **SETTINGS)
    for images, labels in batches():
        ga.step(images[rank::2], labels[rank::2], optimizer)
    return [p.detach() for p in net.parameters()]
