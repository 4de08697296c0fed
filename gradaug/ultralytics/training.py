"""GradAug in Ultralytics' own trainer: its data, optimizer, averages, schedules, checkpoints; n sub-networks a batch.

What is validated and saved is Ultralytics' model, which knows nothing of sub-networks: they come in by its criterion,
which Ultralytics leaves out of copies and checkpoints.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaug.config.subnets import SUBNET_SETTINGS, SubnetSettings
from gradaug.config.values import checked, truth
from gradaug.inputs import copied
from gradaug.subnets.resize import default_resolutions
from gradaug.subnets.sampler import Draw, draw
from gradaug.subnets.space import Space
from gradaug.tasks.losses import without_autocast
from gradaug.ultralytics.models import in_the_modes_of, model_of, view
from netslim.errors import InputError, did_you_mean
from netslim.extras import needed


def trainer(yolo: object, mode: str = "randwidth", **settings: Any) -> type[Any]:
    """A trainer class for ``YOLO(...).train(trainer=...)``: the one of `yolo`'s task, which trains sub-networks too.

    yolo: a `YOLO`, or a trainer class such as ultralytics.models.yolo.detect.DetectionTrainer.
    mode, settings: those of :class:`gradaug.SubnetSettings` but `subnet_share`, `subnet_weight` and `track_stats` as
    :class:`gradaug.GradAug` has them, `subnet_from` as a share of the run, and `prove` as :func:`netslim.convert`.
    Resolutions are sides of the images where a batch has them at `imgsz`.

    Raises InputError for a setting that is unknown or out of range, or something else than a YOLO or a trainer.
    """
    base = _trainer_of(yolo)
    own = {name: check(name, settings.pop(name)) for name, check in _OWN.items() if name in settings}
    for name in settings:
        if name not in SUBNET_SETTINGS:
            raise InputError(f"there is no setting {name!r}{did_you_mean(name, (*SUBNET_SETTINGS, *_OWN), 1)}")
    chosen = SubnetSettings(mode=mode, **settings)
    if chosen.subnet_share != 1:
        raise InputError("Ultralytics' losses are over whole batches: leave subnet_share out, and lower num_subnets")
    members = {"settings": chosen, **own, "__module__": __name__}
    return type(f"GradAug{base.__name__}", (Training, base), members)


_OWN: dict[str, Callable[[str, object], Any]] = {
    "subnet_weight": checked, "subnet_from": checked, "track_stats": checked, "prove": truth,
}  # fmt: skip
"""Settings beside those of sub-networks, and what reads them."""


def _trainer_of(yolo: object) -> type[Any]:
    with needed("ultralytics", "Ultralytics' trainers"):
        from ultralytics.engine.model import Model
        from ultralytics.engine.trainer import BaseTrainer
    found = yolo._smart_load("trainer") if isinstance(yolo, Model) else yolo
    if not (isinstance(found, type) and issubclass(found, BaseTrainer)):
        raise InputError(f"{found!r} is neither a YOLO nor a trainer of Ultralytics such as DetectionTrainer")
    return found


class Training:
    """A base that stands before Ultralytics' trainer in a class of one's own; `trainer` makes such classes."""

    settings: ClassVar[SubnetSettings] = SubnetSettings()
    subnet_weight: ClassVar[float] = 1.0
    subnet_from: ClassVar[float] = 0.0
    track_stats: ClassVar[bool] = False
    prove: ClassVar[bool] = True

    def run_callbacks(self: Any, event: str) -> None:
        """As Ultralytics has it; when training starts, with everything in place, sub-networks join the loss."""
        if event == "on_train_start":
            _join(self)
        super().run_callbacks(event)  # type: ignore[misc]


def _join(training: Any) -> None:
    """Sub-networks become a part of what the trained model's criterion does."""
    from ultralytics.utils.torch_utils import unwrap_model

    model = unwrap_model(training.model)
    if model_of(model) is not model:
        raise InputError("train the plain model: YOLO(...).train builds its own, whatever .model is")
    own = model.init_criterion() if getattr(model, "criterion", None) is None else model.criterion
    model.criterion = Criterion(own, training, model)


class Criterion:
    """A model's loss of its predictions; where the model trains, the gradients of its sub-networks' losses as well.

    They are added up before those of the loss that is returned, by the same scaler. Sub-networks learn the truth, as
    the whole does, on the batch's images at a size of their own. All else is the model's own criterion.
    """

    def __init__(self, own: Any, training: Any, model: Any) -> None:
        self.own, self.training, self.model = own, training, model
        self.net = view(model, training.prove)
        self.space = _space(training, self.net)
        self.steps = training.start_epoch * len(training.train_loader)
        """Batches so far, of this run and those that it goes on from: the same sub-networks follow."""
        self.losses: tuple[Tensor, ...] = ()
        """Of the last batch's sub-networks, detached."""

    def __call__(self, preds: Any, batch: dict[str, Any]) -> Any:
        if self.model.training and torch.is_grad_enabled():
            in_the_modes_of(self.model, self.net)
            draws = draw(self.space, self.training.args.seed, self.steps)
            self.losses = tuple(self._subnet_backward(batch, chosen) for chosen in draws)
            self.steps += 1
            torch.clear_autocast_cache()
        return self.own(preds, batch)

    def _subnet_backward(self, batch: dict[str, Any], chosen: Draw) -> Tensor:
        images = scaled(batch["img"], chosen.resolution, self.training.args.imgsz, self.training.stride)
        torch.clear_autocast_cache()  # of casts from a pass before: they hold its graph
        with self.net.sub(**chosen.sub(), track_running_stats=self.training.track_stats):
            loss = self.own(self.net(copied(images)), copied({**batch, "img": images}))[0].sum()
            if loss.requires_grad:
                share = self.training.subnet_weight * max(self.training.world_size, 1)  # Ultralytics takes a sum
                with without_autocast(loss):
                    self.training.scaler.scale(share * loss).backward()
        return loss.detach()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["own"], name)

    def __deepcopy__(self, memo: dict[int, object]) -> Any:
        return copy.deepcopy(self.own, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.own.__reduce_ex__(protocol)


def _space(training: Any, net: Any) -> Space:
    settings, stride, side = training.settings, training.stride, training.args.imgsz
    if settings.resolutions is None:
        sides = dict.fromkeys(max(1, round(size / stride)) * stride for size in default_resolutions(side))
        settings = SubnetSettings(
            **{name: getattr(settings, name) for name in SUBNET_SETTINGS} | {"resolutions": tuple(sides)}
        )
    first = round(training.subnet_from * training.epochs * len(training.train_loader))
    return replace(Space.for_network(net, settings), subnet_from=first)


def scaled(images: Tensor, side: int | None, full: int, stride: int) -> Tensor:
    """Images (N, C, H, W) by the factor side / full, both sizes filled up to multiples of `stride`.

    Boxes, key points and masks need no change: Ultralytics has them as shares of the image, or resizes them itself.
    """
    if side is None or side == full:
        return images
    size = [math.ceil(n * side / full / stride) * stride for n in images.shape[-2:]]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)
