"""GradAug under Lightning: the Trainer clips, accumulates, schedules, saves and resumes as it does for any module.

python examples/lightning_train.py                      # --devices 2: two processes, --precision bf16-mixed, ...
"""

from __future__ import annotations

import argparse

import lightning
import torch
from digits import loaders
from mymodel import DigitNet
from torchmetrics.classification import MulticlassAccuracy

import netslim
from gradaug.lightning import GradAugMixin


class Digits(GradAugMixin, lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = netslim.convert(DigitNet(width=8), torch.randn(2, 1, 32, 32))
        self.use_gradaug(self.net, mode="both")
        self.top1 = MulticlassAccuracy(10, average="micro")

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        steps = int(self.trainer.estimated_stepping_batches)  # half as many where two processes share the images
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        self.top1(self.net(batch[0]), batch[1])
        self.log("top1", self.top1)


def train(epochs: int = 5, resume: str | None = None, **options: object) -> lightning.Trainer:
    lightning.seed_everything(0)
    training, validation = loaders()
    trainer = lightning.Trainer(max_epochs=epochs, gradient_clip_val=5.0, accelerator="cpu", **options)
    trainer.fit(Digits(), training, validation, ckpt_path=resume)
    return trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--resume")
    options = vars(parser.parse_args())
    trainer = train(**options)
    if trainer.is_global_zero:
        print(f"validation top-1 {100 * trainer.callback_metrics['top1']:.2f} %")
