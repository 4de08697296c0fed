"""Detection and instance segmentation: boxes, classes, masks and keypoints in images of any size.

    ga = gradaug.GradAug(net, task=gradaug.Detection(), resolutions=(800, 700, 600))
    losses = ga.backward(images, targets)        # a list of (C, H, W), a list of dicts with boxes, labels, masks, ...

For networks with the calling convention of torchvision's detectors: in training ``net(images, targets)`` is a dict of
losses, in evaluation ``net(images)`` a list of dicts with boxes, labels and scores. The loss is the sum of the losses.

A step: the full network on the batch and its targets; then, each time, a sub-network, narrowed in its backbone alone
(``scope``), on the same batch at another scale. A network that resizes its images itself, as torchvision's do in
``transform``, is told another size for that pass, since it would undo any other; for others images, boxes, masks and
keypoints are resized together. What the sub-network learns, :attr:`Detection.subnet_target`, is

    truth    the losses against the labelled objects at its scale, as for the full network (MutualNet's way)
    full     what the full network answers to the images at that same scale, at the same anchors and proposals
             (:mod:`gradaug.tasks.distilled`)

Random choices of the network's own (anchors and proposals that a loss is over, the size of a batch) come from one
seeded state per pass, fixed by (seed, step, part, pass, rank); global generators stay where they were.

Losses of detectors are means over the images (RetinaNet), or over anchors and proposals of the whole batch (R-CNN, SSD,
FCOS). The parts of an accumulated batch and the shares of several processes count alike, so that their gradients are
those of the joined batch exactly for the former, and for the latter where each has equally many of these. A network
that samples anchors at random samples others in a batch that is cut in another way.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from torch import Tensor

from gradaug.config.ranges import one_of
from gradaug.config.registry import REGULARIZERS
from gradaug.data.pictures import draw
from gradaug.errors import DataError
from gradaug.inputs import blank_images, device_of
from gradaug.regularizers.hooks import Regularizer
from gradaug.scopes import drawn_from
from gradaug.tasks import detector, distilled
from gradaug.tasks.average_precision import DetectionScore, PrecisionMeter, require_predictions
from gradaug.tasks.boxes import Images, Targets, require_images, require_targets, resized
from gradaug.tasks.task import Column, Forward, Key, Meter, Mix, Sums, Task, TaskScore, require_labels
from netslim.errors import InputError

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig
    from gradaug.data import DataSource
    from netslim import SlimNet


class Answer(NamedTuple):
    """A training pass: the losses by name, and the targets that they are against."""

    losses: dict[str, Tensor]
    targets: Targets


class Trial(NamedTuple):
    """What a network says of a blank image, and how many classes it tells apart, if it says so."""

    predictions: object
    classes: int | None


@dataclass(frozen=True)
class Detection(Task[Images, Targets, Any]):
    """Targets (n boxes an image) by a dict of losses; average precision by predictions.

    Raises InputError for settings out of range.
    """

    name: ClassVar[str] = "detection"
    scope: ClassVar[str] = "backbone"
    altered: ClassVar[bool] = False
    scored: ClassVar[type[TaskScore]] = DetectionScore
    followed: ClassVar[Mapping[str, Column]] = {}
    recorded: ClassVar[tuple[Column, ...]] = DetectionScore.columns
    fewest: ClassVar[int] = 1

    subnet_target: str = "truth"
    """"truth" or "full"."""

    def __post_init__(self) -> None:
        legal = one_of("truth", "full")
        if not legal.holds(self.subnet_target):
            raise InputError(f"subnet_target must be {legal.words}, not {self.subnet_target!r}")

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        for sentence, said in _useless(config).items():
            if said:
                raise InputError(sentence)
        return cls(subnet_target=config.subnet_target)

    # -- what inputs are, and what a sub-network sees of them

    def batch(self, images: Images, unlabelled: Images | None) -> tuple[Images, int, int]:
        if unlabelled is not None:
            raise InputError("detection learns from labelled images alone: leave the unlabelled ones out")
        found = require_images(images)
        return found, len(found), len(found)

    def first(self, output: Any, count: int, of: int) -> Any:
        return output

    def part(self, images: Images, target: Targets, numbers: Sequence[int]) -> tuple[Images, Targets]:
        return [images[number] for number in numbers], [target[number] for number in numbers]

    def blank(self, net: SlimNet, count: int = 2) -> Images:
        return list(blank_images(net, count))

    def side(self, net: SlimNet) -> int | None:
        return detector.side(net) or super().side(net)

    @contextlib.contextmanager
    def scaled(self, net: SlimNet, images: Any, target: Any, side: int | None) -> Iterator[tuple[Any, Any]]:
        if detector.side(net) is None:
            yield resized(images, target, side)
            return
        with detector.resizing(net, side):
            yield images, target

    def require_batch(self, net: SlimNet, images: Images, labels: Targets) -> None:
        if self.subnet_target == "full":
            distilled.require_parts(net)
        require_targets(images, labels, detector.classes(net), detector.learnt(net))

    def passing(self, net: SlimNet, key: Key) -> contextlib.AbstractContextManager[object]:
        return drawn_from(device_of(net), random.Random(f"gradaug/detection/{key}").getrandbits(63))

    # -- what runs, and what is learned

    def answer(self, forward: Forward, images: Images, labels: Targets) -> Answer:
        return Answer(_losses(forward(images, labels)), labels)

    def at_images(self, net: SlimNet, images: Images, target: Any) -> Any:
        return distilled.taught(net, images) if self.subnet_target == "full" else target

    def subnet_answer(self, net: SlimNet, forward: Forward, images: Images, target: Any) -> object:
        if isinstance(target, distilled.Taught):
            return distilled.answers(net, target.places)
        return self.answer(forward, images, target)

    def rehearse(self, net: SlimNet, given: Mapping[str, Any]) -> object:
        images = [image.clamp(0, 1) for image in next(iter(given.values()))]
        with self.passing(net, (0,)):
            return net(images, [detector.invented(net, image) for image in images])

    def loss(self, output: object, labels: Targets) -> Tensor:
        """The sum of the losses."""
        assert isinstance(output, Answer)
        return sum(list(output.losses.values())[1:], start=next(iter(output.losses.values())))

    def target(self, output: object) -> Targets:
        """The labelled objects."""
        assert isinstance(output, Answer)
        return output.targets

    def require_target(self, target: Targets, labels: Targets, values: bool, moves: bool) -> None:
        if moves:
            raise InputError("a view may move pixels, and boxes stay where they are: leave `view` out")

    def subnet_loss(self, output: object, target: Any, mix: Mix | None = None) -> Tensor:
        if isinstance(output, distilled.Answers):
            return distilled.divergence(output, target)
        return self.loss(output, target)

    # -- what is measured

    def train_sums(self, target: Targets, labels: Targets) -> Sums:
        return {}

    def meter(self, thorough: bool = False) -> Meter[Targets]:
        return PrecisionMeter()

    def pictures(self, output: Any, images: Images, labels: Targets, source: DataSource) -> list[Tensor]:
        pairs = zip(images, labels, output, strict=True)
        return [draw([image, image], both, source.categories) for image, *both in pairs]

    def trial(self, net: SlimNet) -> Trial:
        return Trial(super().trial(net), detector.classes(net))

    def require_fit(self, output: object, source: DataSource) -> None:
        assert isinstance(output, Trial)
        require_labels(source, Detection.name)
        try:
            require_predictions(output.predictions)
        except InputError as error:
            raise DataError(str(error)) from error
        if output.classes is not None and output.classes != source.classes:
            raise DataError(
                f"the network tells {output.classes} classes apart and {source.name} has {source.classes}, the "
                f"background counted; build the model for {source.classes} and convert it again "
                f"(netslim convert ... --arg num_classes={source.classes})"
            )


def _useless(config: TrainConfig) -> dict[str, object]:
    """Why a detector has no use for a setting, and whether it was made."""
    changing = [name for name in config.regularizers if REGULARIZERS[name].load().on_batch is not Regularizer.on_batch]
    names = ",".join(changing)
    return {
        f"--regularizers {names} changes images of one label, and here they have boxes: leave it out": changing,
        "--views may move pixels, and boxes would stay where they are: leave it out": config.views,
        f"--semi {config.semi} is for images of one label, and detection learns from labelled ones alone: leave it "
        "out": config.semi != "none",
        "--label-smoothing is for one label an image, and a detector's losses are its own: leave it "
        "out": config.label_smoothing,
        "--divergence and --temperature are for one label an image: --subnet-target says what sub-networks of a "
        "detector learn": config.divergence != "kl" or config.temperature != 1,
        "--compile would take apart what a detector does in Python, at every size anew: leave it out": config.compile,
    }


def _losses(output: object) -> dict[str, Tensor]:
    """The losses that a detector returns in training."""
    if not isinstance(output, Mapping) or not output or not all(isinstance(v, Tensor) for v in output.values()):
        shown = f"a {type(output).__name__}" if not isinstance(output, Mapping) else f"a dict of {', '.join(output)}"
        raise InputError(
            f"the network returns {shown} in training, and a detector returns a dict of losses there (called with "
            "images and targets): is it in eval mode, or no detector?"
        )
    return dict(output)
