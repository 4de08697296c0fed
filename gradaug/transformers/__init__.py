"""GradAug in the Trainer of transformers, which is imported with this package.

trainer = GradAugTrainer(net, config=model.config, gradaug={"mode": "both"}, args=..., train_dataset=...)
trainer.train()
"""

from __future__ import annotations

from gradaug.transformers.trainer import GradAugTrainer as GradAugTrainer

__all__ = ["GradAugTrainer"]
