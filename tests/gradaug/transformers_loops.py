"""Networks with the outputs of transformers in its Trainer with GradAug, also as one of two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler, TensorDataset
from transformers import TrainingArguments
from transformers.modeling_outputs import ImageClassifierOutput, SemanticSegmenterOutput

import netslim
from gradaug.distributed.processes import current
from gradaug.transformers import GradAugTrainer

from .loops import SETTINGS, Residual, batches, optimizer_of

OPTIONS: dict[str, Any] = dict(SETTINGS)


class Classifier(Residual):
    """Answers as transformers' classifiers do."""

    def forward(self, pixel_values: Tensor) -> ImageClassifierOutput:
        return ImageClassifierOutput(logits=super().forward(pixel_values))


class Segmenter(nn.Module):
    """Logits at half of the images' size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 8, 3, padding=1, stride=2), nn.Conv2d(8, 3, 1)

    def forward(self, pixel_values: Tensor) -> SemanticSegmenterOutput:
        return SemanticSegmenterOutput(logits=self.head(self.stem(pixel_values).relu()))


class InOrder(GradAugTrainer):
    """Images in their order, so that a loop can be told to take the same batches."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def converted(model: type[nn.Module] = Classifier, seed: int = 0) -> netslim.SlimNet:
    torch.manual_seed(seed)
    return netslim.convert(model(), {"pixel_values": torch.randn(2, 1, 8, 8)}, prove=False).train()


def collate(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    images, labels = zip(*pairs, strict=True)
    return {"pixel_values": torch.stack(images), "labels": torch.stack(labels)}


def trained(
    net: netslim.SlimNet, folder: Path, resume: Any = None, options: Any = None, data: Any = None, **arguments: Any
) -> InOrder:
    """The trainer after an epoch over the batches, unless `arguments` say otherwise."""
    common = {"per_device_train_batch_size": 8, "num_train_epochs": 1, "lr_scheduler_type": "constant"}
    quiet = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "max_grad_norm": 0.0}
    args = TrainingArguments(str(folder), **(common | quiet | arguments))
    images, labels = (torch.cat(part) for part in zip(*(data or batches()), strict=True))
    trainer = InOrder(
        net,
        gradaug=OPTIONS | (options or {}),
        args=args,
        data_collator=collate,
        train_dataset=TensorDataset(images, labels),
        eval_dataset=TensorDataset(images[:8], labels[:8]),
        compute_metrics=lambda found: {"images": len(found[1]), "classes": found[0].shape[1]},
        optimizers=(optimizer_of(net), None),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def in_a_pair(folder: str = "nowhere") -> list[Tensor]:
    """Weights after training on this process's halves, from weights that differ between the processes."""
    net = converted(seed=current().rank)
    shared = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_grad_norm": 0.5}
    trained(net, Path(folder), ddp_backend="gloo", **shared)
    return [parameter.detach() for parameter in net.parameters()]
