"""GradAug for Lightning: a mixin for any LightningModule, which then trains sub-networks too.

    class Mine(GradAugMixin, lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = netslim.convert(model, example_inputs)
            self.use_gradaug(self.net, mode="randwidth")
        def configure_optimizers(self): ...

Optimisation stays Lightning's own: the Trainer's precision, gradient clipping, accumulation, schedulers, counts and
checkpoints are as for any module, and a run that resumes goes on with the sub-networks that were next. Strategies are
those of one process, and "ddp", whose gradients are exchanged once a step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradaug.distributed.wrapper import one_exchange
from gradaug.step import GradAug
from netslim.errors import InputError

if TYPE_CHECKING:
    from gradaug.subnets.space import Space
    from netslim import SlimNet

_LIGHTNINGS = {
    "accumulate": "accumulate_grad_batches=K",
    "scaler": 'precision="16-mixed"',
    "amp": 'precision="bf16-mixed"',
    "backward": "a strategy or a precision",
}
"""Options of GradAug that are the Trainer's here, and its words for them."""


class GradAugMixin:
    """Gives ``training_step`` and ``backward``; stands before LightningModule in the list of bases."""

    automatic_optimization: bool
    log: Any
    trainer: Any
    gradaug: GradAug

    def use_gradaug(self, net: SlimNet, space: Space | str | None = None, **options: Any) -> None:
        """Arguments are those of :class:`gradaug.GradAug`. Raises InputError for what is the Trainer's to say."""
        for name in options.keys() & _LIGHTNINGS.keys():
            raise InputError(f"Lightning's Trainer does that: leave {name} out, and give it {_LIGHTNINGS[name]}")
        self.gradaug = GradAug(net, space, **options)
        self._losses: Iterator[Tensor] = iter(())
        self._step = contextlib.ExitStack()
        self._plain = False

    def training_step(self, batch: tuple[object, object], batch_idx: int) -> Tensor:
        """:meth:`gradaug_loss` of a batch (images, labels); write your own for batches of other forms."""
        images, labels = batch
        return self.gradaug_loss(images, labels, batch_idx)

    def gradaug_loss(self, images: object, labels: object, batch_idx: int) -> Tensor:
        """The full network's loss, for ``training_step`` to return; sub-networks follow in ``backward``.

        Logged as ``train_loss``, and the sum of those of the sub-networks as ``subnet_loss``, in steps that have some.
        Raises InputError under manual optimisation, and as :meth:`gradaug.GradAug.backward` does.
        """
        if not self.automatic_optimization:
            raise InputError(
                "this module optimises by hand (automatic_optimization=False): leave that to Lightning, or call "
                "GradAug(net, backward=self.manual_backward).step(images, labels, optimizer) yourself"
            )
        self.gradaug.seek(self.trainer.global_step, batch_idx % self.trainer.accumulate_grad_batches)
        self._plain = self.gradaug.space.plain(self.gradaug.steps)
        self._step.enter_context(one_exchange(self.trainer.strategy.model))
        self._losses = self.gradaug.losses(images, labels)
        full = next(self._losses)
        self.log("train_loss", full.detach(), prog_bar=True)
        return full

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Lightning's hook: the gradient of `loss`, as scaled by Lightning, then those of the sub-networks' losses."""
        total = loss.new_zeros(())
        with self._step:
            super().backward(loss, *args, **kwargs)  # type: ignore[misc]
            for subnet in self._subnet_losses():
                total += subnet.detach()
                super().backward(self._as_scaled(subnet), *args, **kwargs)  # type: ignore[misc]
        if not self._plain:
            self.log("subnet_loss", total)

    def _subnet_losses(self) -> Iterator[Tensor]:
        while True:
            with self.trainer.precision_plugin.train_step_context():
                loss = next(self._losses, None)
            if loss is None:
                return
            yield loss

    def _as_scaled(self, loss: Tensor) -> Tensor:
        """What Lightning does to the loss that ``training_step`` returns."""
        return self.trainer.precision_plugin.pre_backward(loss / self.trainer.accumulate_grad_batches, self)
