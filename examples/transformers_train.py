"""GradAug in transformers' Trainer: a ResNet for digits, converted; what is saved is opened by from_pretrained.

python examples/transformers_train.py
torchrun --nproc-per-node 2 examples/transformers_train.py
"""

from __future__ import annotations

import numpy as np
import torch
from digits import datasets
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

import netslim
from gradaug.transformers import GradAugTrainer


def collate(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    images, labels = zip(*pairs, strict=True)
    return {"pixel_values": torch.stack(images), "labels": torch.stack(labels)}


def top1(predicted: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    logits, labels = predicted
    return {"top1": float((logits.argmax(1) == labels).mean())}


def train(folder: str = "digits_resnet", epochs: int = 4, **options: object) -> Trainer:
    training, validation = datasets()
    arguments = TrainingArguments(
        folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=256,
        learning_rate=1e-2,
        lr_scheduler_type="cosine",
        report_to="none",
        use_cpu=True,
        **options,
    )
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 32], "depths": [1, 1, 1], "layer_type": "basic"}
    model = ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=10, **sizes))
    net = netslim.convert(model, {"pixel_values": torch.randn(2, 1, 32, 32)})
    trainer = GradAugTrainer(
        net,
        gradaug={"mode": "both"},
        config=model.config,
        args=arguments,
        data_collator=collate,
        train_dataset=training,
        eval_dataset=validation,
        compute_metrics=top1,
    )
    trainer.train()
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()  # the first process alone writes: the others read what is whole
    return trainer


if __name__ == "__main__":
    trainer = train()
    saved = ResNetForImageClassification.from_pretrained(trainer.args.output_dir)
    again = Trainer(saved, trainer.args, collate, eval_dataset=trainer.eval_dataset, compute_metrics=top1)
    print(f"validation top-1 {100 * again.evaluate()['eval_top1']:.2f} %")
