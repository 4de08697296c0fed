"""What is learned, as one object that the step, the run and the evaluation ask: a new task is a file like those here.

    task = Classification(temperature=2.0)
    loss = task.loss(output, labels)                        # the full network's
    target = task.target(output)                            # what sub-networks learn
    loss = task.subnet_loss(output_of_one, target)
    score = meter.score()                                   # after meter = task.meter(); meter.add(output, labels)

What is measured is put together from batches and processes by a :class:`Meter`: sums over images, by name, or whatever
else merges. Which figures there are,
what they are called and in which order they are shown is a :class:`Column` each; nobody else names them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from torch import Tensor

from gradaug.errors import DataError
from gradaug.subnets.parts import part_of
from gradaug.subnets.scaling import Scaling
from gradaug.tasks.batch import batch_of, first_of, rows_of
from netslim.errors import InputError

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig
    from gradaug.data import DataSource
    from netslim import SlimNet

Images = TypeVar("Images")
"""A batch as the network takes it."""
Labels = TypeVar("Labels")
"""What data sets say of a batch."""
Target = TypeVar("Target")
"""What sub-networks learn of the full network's output for a batch."""
Output = TypeVar("Output")

Sums = dict[str, Tensor]
"""Sums over images by name, float64."""
Mix = Callable[[Tensor], Tensor]
Forward = Callable[..., Any]
"""The network, or what a caller has around it."""
Key = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One figure: its name in files, its heading in tables, how it is written."""

    name: str
    label: str
    unit: str = "%"
    digits: int = 2
    detail: bool = False
    """Whether it is for files alone, as tables and lines have no room for it."""

    @property
    def heading(self) -> str:
        return f"{self.label} {self.unit}".strip()

    @property
    def scale(self) -> float:
        """What a share or a mean is multiplied by."""
        return 100.0 if self.unit == "%" else 1.0

    def number(self, value: float | None) -> str:
        """For a table; empty where there is no value."""
        return "" if value is None else f"{value:.{self.digits}f}"

    def said(self, value: float, digits: int | None = None) -> str:
        """With its name, for a line."""
        return f"{self.label} {value:.{self.digits if digits is None else digits}f} {self.unit}".strip()


LOSS = Column("loss", "loss", "", 3)


class TaskScore:
    """How well a network does on a set of images: a frozen dataclass with `images` and a field for each column.

    Of a task that has a loss in evaluation, :data:`LOSS` is one of the columns.

    The first column is the one that pictures, attacks and corruptions are about.
    """

    __slots__ = ()
    columns: ClassVar[tuple[Column, ...]] = ()

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[object]]]
        images: int

    @property
    def headline(self) -> float:
        """The value of the first column; 0 where there was nothing to measure."""
        return float(getattr(self, self.columns[0].name) or 0.0)

    @property
    def mean_loss(self) -> float | None:
        """The loss, where the task has one in evaluation."""
        return getattr(self, LOSS.name, None)


class Task(Scaling, Generic[Images, Labels, Target]):
    """Loss, target of the sub-networks, figures, and what all of them need; frozen dataclasses inherit from it.

    An output is whatever the network returns. What batches are here is for images in one tensor (N, ...), and a network
    that is called with them alone; :class:`gradaug.tasks.detection.Detection` is for others.
    """

    name: ClassVar[str]
    """In settings (``--task``) and of the data sets that have such labels."""
    altered: ClassVar[bool] = True
    """Whether images can be attacked and corrupted, which is done to one tensor of them."""
    scored: ClassVar[type[TaskScore]]
    followed: ClassVar[Mapping[str, Column]]
    """Sums of :meth:`train_sums` by name, and what their mean over the images is shown as."""
    recorded: ClassVar[tuple[Column, ...]]
    """Columns of the score that every epoch's record has."""
    fewest: ClassVar[int] = 2
    """Images that a sub-network sees at least, where it sees a part of them: batch norm wants two."""

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        """The task with a run's settings; InputError for settings that it has no use for."""
        raise NotImplementedError

    # -- what inputs are, and what a sub-network sees of them

    def batch(self, images: Images, unlabelled: Images | None) -> tuple[Images, int, int]:
        """All images of a step as the network takes them, how many have labels (the first), how many there are."""
        every, count = batch_of(images, unlabelled)
        return cast("Images", every), count, len(every)

    def first(self, output: Output, count: int, of: int) -> Output:
        """The network's output for the first `count` images of `of`."""
        return first_of(output, count, of)

    def part(self, images: Images, target: Target, numbers: Sequence[int]) -> tuple[Images, Target]:
        """The images of these numbers, and the target that goes with them; InputError where there is no such part."""
        some, taught = rows_of(images, target, numbers)
        return cast("Images", some), taught

    def seen(self, images: Images, target: Target, of: int, share: float, key: str) -> tuple[Images, Target]:
        """What a sub-network sees of `of` images, and learns there: :meth:`part` for that share of them, by the key."""
        numbers = part_of(share, of, key, self.fewest)
        return (images, target) if numbers is None else self.part(images, target, numbers)

    def require_batch(self, net: SlimNet, images: Images, labels: Labels) -> None:
        """InputError for a batch that `net` cannot learn, before it runs."""

    def passing(self, net: SlimNet, key: Key) -> contextlib.AbstractContextManager[object]:
        """Around each pass of a step, which `key` is the number of: (seed, step, part, pass, ranks)."""
        return contextlib.nullcontext()

    # -- what runs

    def answer(self, forward: Forward, images: Images, labels: Labels) -> object:
        """The full network's output for a batch."""
        return forward(images)

    def at_images(self, net: SlimNet, images: Images, target: Target) -> Target:
        """The target on the images that a sub-network sees, which :meth:`scaled` gave."""
        return target

    def subnet_answer(self, net: SlimNet, forward: Forward, images: Images, target: Target) -> object:
        """The output of the sub-network that `net` is at."""
        return forward(images)

    def trial(self, net: SlimNet) -> object:
        """The output for one blank image, for :meth:`require_fit`; `net` is in eval mode."""
        return net(self.blank(net, 1))

    def rehearse(self, net: SlimNet, given: Mapping[str, Any]) -> object:
        """The output of a training pass for random arguments of forward, to see what it costs."""
        return net(**given)

    # -- what is learned

    def loss(self, output: object, labels: Labels) -> Tensor:
        """Of the full network, a scalar."""
        raise NotImplementedError

    def target(self, output: object) -> Target:
        """What sub-networks learn of the full network's output; detached."""
        raise NotImplementedError

    def require_target(self, target: Target, labels: Labels, values: bool, moves: bool) -> None:
        """InputError unless sub-networks can learn from `target`.

        `values`: look at numbers too, which waits for a GPU. `moves`: sub-networks see images whose content may be
        elsewhere.
        """
        raise NotImplementedError

    def subnet_loss(self, output: object, target: Target, mix: Mix | None = None) -> Tensor:
        """Of a sub-network, a scalar; `mix` is what a view did to the target (:mod:`gradaug.subnets.views`)."""
        raise NotImplementedError

    def taught(self, temperature: float) -> Self:
        """This task with a :meth:`subnet_loss` from another network's answers, at a temperature where it has one.

        InputError for a task that has no use for them.
        """
        raise InputError(f"{self.name} does not learn from another network: leave out the teacher")

    def beside(self, output: object, target: Target) -> tuple[object, Target]:
        """An output, and what another network says of the same images, as :meth:`subnet_loss` compares them."""
        return output, target

    def comparable(self, output: object) -> Tensor:
        """The output as numbers whose squared difference says how far two networks disagree, for a mean teacher."""
        raise InputError(f"a mean teacher has nothing to compare in {self.name}: take another --semi")

    # -- what is measured

    def train_sums(self, target: Target, labels: Labels) -> Sums:
        """Sums over the images of a training batch, those of :attr:`followed`; they wait for no GPU."""
        raise NotImplementedError

    def sums(self, output: object, labels: Labels) -> Sums:
        """Sums over the images of a batch, from which :meth:`score` is made."""
        raise NotImplementedError

    def score(self, sums: Sums) -> TaskScore:
        """The score on the images that `sums` are over; empty where there were none."""
        raise NotImplementedError

    def meter(self, thorough: bool = False) -> Meter[Labels]:
        """What adds up the figures of batches; `thorough`: those too that cost more, in this process alone."""
        return Meter(self)

    def pictures(self, output: object, images: Images, labels: Labels, source: DataSource) -> list[Tensor]:
        """Of each image of `source` what it is beside what the network says of it, (3, H, W) uint8; none as a rule."""
        return []

    def require_fit(self, output: object, source: DataSource) -> None:
        """DataError unless a network with this output for one image can learn the labels of `source`."""
        raise NotImplementedError


def require_labels(source: DataSource, task: str) -> None:
    """DataError unless the labels of `source` are those of `task`."""
    if source.task != task:
        raise DataError(f"{source.name} has labels for {source.task}: give --task {source.task}, or other --data")


class Meter(Generic[Labels]):
    """What batches came to so far, and what several processes came to: sums here."""

    def __init__(self, task: Task[Any, Labels, Any]) -> None:
        self.task = task
        self.sums: Sums = {}

    def add(self, output: object, labels: Labels) -> None:
        """Takes in a batch."""
        self.sums = merged([self.sums, self.task.sums(output, labels)])

    def state(self) -> object:
        """What was found so far, on the CPU, for other processes."""
        return {name: value.cpu() for name, value in self.sums.items()}

    def merge(self, states: Sequence[Any]) -> None:
        """Goes on from the states of all processes, in the order of their ranks, this one's among them."""
        self.sums = merged(states)

    def score(self) -> TaskScore:
        return self.task.score(self.sums)


def merged(parts: Sequence[Sums]) -> Sums:
    """The sums on all images, from those on parts of them."""
    found: Sums = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found[name] + value if name in found else value
    return found


AnyTask = Task[Any, Any, Any]
"""A task of whatever images, labels and targets, for those that hand them on without looking."""

T = TypeVar("T", bound=AnyTask)


def adapted(task: T, settings: Mapping[str, object]) -> T:
    """`task` with other settings; InputError for what it does not have."""
    if not isinstance(task, Task):
        raise InputError(f"task must be a gradaug.Task such as Classification(), not {task!r}")
    for name in settings:
        if name not in getattr(task, "__dataclass_fields__", {}):
            raise InputError(f"{task.name} has no {name}: leave it out")
    return dataclasses.replace(task, **settings) if settings else task  # type: ignore[type-var]
