"""transformers' Trainer that trains sub-networks too: image classification and semantic segmentation.

The loop, its precision, clipping, accumulation, schedules, metrics and checkpoints are the Trainer's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradaug.distributed.wrapper import one_exchange
from gradaug.step import GradAug
from gradaug.tasks.classification import Classification
from gradaug.tasks.losses import smoothed
from netslim import SlimNet
from netslim.errors import InputError
from netslim.extras import needed
from netslim.net.runtime import runtime

with needed("transformers", "its trainers"):
    import transformers

_TRAINERS = {
    "accumulate": "gradient_accumulation_steps",
    "scaler": "fp16",
    "amp": "bf16 or fp16",
    "backward": "accelerator_config",
    "forward": "torch_compile",
}
"""Options of GradAug that are the Trainer's here, and the training argument that says them."""


class GradAugTrainer(transformers.Trainer):
    """A Trainer for a converted network.

    Args:
        model: what ``netslim.convert(model, {"pixel_values": ...})`` returned; its outputs are those of the original,
            with `logits` and without `loss`, which is the task's.
        gradaug: options of :class:`gradaug.GradAug`, such as mode; ``task=gradaug.Segmentation(ignore_index=255)`` for
            masks. Without a task it is classification, with the training argument `label_smoothing_factor`.
        config: of the original; with it, everything saved is opened by ``from_pretrained``.
        settings: the Trainer's own arguments.

    Logs ``subnet_loss``, the sum of those of the sub-networks, beside the loss. Labels are the entry "labels" of a
    batch, and the network's argument is the other one that is used. Raises InputError for a model that is not
    converted, for options that are the Trainer's to say, and where one process would drive several GPUs.
    """

    def __init__(
        self,
        model: SlimNet,
        gradaug: Mapping[str, Any] | None = None,
        config: transformers.PreTrainedConfig | None = None,
        **settings: Any,
    ) -> None:
        options = dict(gradaug or {})
        for name in options.keys() & _TRAINERS.keys():
            raise InputError(f"the Trainer does that: leave {name} out, and give TrainingArguments {_TRAINERS[name]}")
        if not isinstance(model, SlimNet):
            raise InputError(f"{type(model).__name__} is no converted network: give what netslim.convert returned")
        super().__init__(model, **settings)
        if self.args.n_gpu > 1:
            raise InputError("sub-networks train with a process for each GPU: start the script with torchrun")
        if self.compute_loss_func is not None:
            raise InputError('give the loss as gradaug={"criterion": ...}, and leave compute_loss_func out')
        options.setdefault("task", Classification(smoothed(Classification.criterion, self.args.label_smoothing_factor)))
        self.label_smoother = None
        self.gradaug, self.config = GradAug(model, **options), config
        (self._images,) = runtime(model).plan.inputs
        # What the Trainer would read off the signature of forward.
        used = [self._images, "labels", "label", "label_ids"]
        self.__dict__.update(label_names=["labels"], _signature_columns=used, model_accepts_loss_kwargs=False)
        self._losses: Iterator[Tensor] = iter(())
        self._at = (-1, 0)
        self._subnet_losses: list[Tensor] = []
        self._steps = 0

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The Trainer's on the full network, whose loss it returns; then the passes of the sub-networks."""
        step, part = self.state.global_step, self._at[1] + 1 if self._at[0] == self.state.global_step else 0
        self._at = (step, part)
        self.gradaug.seek(step, part)
        self.gradaug.forward = model
        with one_exchange(model):
            full: Tensor = super().training_step(model, inputs, num_items_in_batch)
            for loss in self._losses:
                self._subnet_losses.append(loss.detach() / self.current_gradient_accumulation_steps)
                self.accelerator.backward(loss / self.current_gradient_accumulation_steps)
        self._steps += part == 0 and not self.gradaug.space.plain(step)
        return full

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The task's loss; in training also what :meth:`training_step` goes on from."""
        images, labels = inputs[self._images], inputs["labels"]
        if model.training and torch.is_grad_enabled() and not return_outputs:
            self._losses = self.gradaug.losses(images, labels)
            return next(self._losses)
        outputs = model(images)
        loss = self.gradaug.task.loss(outputs, labels)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The Trainer's, with ``subnet_loss`` beside ``loss``: the mean over the steps since then that had any."""
        if "loss" in logs and self._subnet_losses:
            logs["subnet_loss"] = float(torch.stack(self._subnet_losses).sum()) / max(self._steps, 1)
            self._subnet_losses, self._steps = [], 0
        super().log(logs, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """The weights under the original's keys, as ever, and its configuration."""
        super()._save(output_dir, state_dict)
        if self.config is not None and self.args.should_save:
            config = copy.deepcopy(self.config)
            config.architectures = [runtime(self.gradaug.net).plan.model]
            config.save_pretrained(Path(output_dir or self.args.output_dir or "."))
