"""GradAug for Lightning: a mixin for any LightningModule, which then trains sub-networks too.

    class Mine(GradAugMixin, lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = netslim.convert(model, example_inputs)
            self.use_gradaug(self.net, mode="randwidth")
        def configure_optimizers(self): ...

Optimisation is manual, as a step has several backward passes. Lightning's "ddp" is refused, as every pass would
wait for the others: train in one process, or with ``gradaug train --gpus``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradaug.step import GradAug
from netslim.errors import InputError

if TYPE_CHECKING:
    from gradaug.subnets.space import Space
    from netslim import SlimNet


class GradAugMixin:
    """Gives ``training_step`` and what it needs; stands before LightningModule in the list of bases."""

    automatic_optimization: bool
    optimizers: Any
    log: Any
    trainer: Any

    def use_gradaug(self, net: SlimNet, space: Space | str | None = None, **options: Any) -> None:
        """Arguments are those of :class:`gradaug.GradAug`."""
        self.automatic_optimization = False
        self.__dict__["gradaug"] = GradAug(net, space, **options)

    def training_step(self, batch: tuple[object, object], _: int) -> None:
        """One GradAug step on (images, labels), or one of its `accumulate` parts; logs the losses.

        They are ``train_loss`` and ``subnet_loss``. Raises InputError where Lightning scales the loss itself.
        """
        if getattr(getattr(self.trainer, "precision_plugin", None), "scaler", None) is not None:
            raise InputError(
                'under Lightning\'s precision "16-mixed" the several losses of a step would not be scaled: take '
                '"bf16-mixed", or "32-true" and use_gradaug(..., amp=torch.float16, scaler=torch.amp.GradScaler())'
            )
        images, labels = batch
        losses = self.__dict__["gradaug"].step(images, labels, self.optimizers())
        self.log("train_loss", losses.full, prog_bar=True)
        self.log("subnet_loss", losses.total - losses.full)

    def on_train_epoch_end(self) -> None:
        """Steps the learning-rate schedule, which manual optimisation leaves to the module."""
        schedule = self.lr_schedulers()  # type: ignore[attr-defined]
        if schedule is not None:
            schedule.step()
