"""What a regulariser may do, and the regularisers of a run together: the run calls hooks and knows none by its name.

    regularizers = Regularizers(TrainConfig(regularizers=("cutmix", "dropblock")), classes=10)
    with net.through(regularizers.on_blocks(net)):                           # open for the whole run
        for step in range(steps):
            regularizers.on_progress(step / steps)
            images, labels = regularizers.on_batch(images, labels, (seed, step))

A new one is a subclass of :class:`Regularizer` in a file of its own, and a row in gradaug/config/registry.py.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from gradaug.config.registry import REGULARIZERS
from gradaug.config.settings import flag
from gradaug.data.source import Batch, Target, one_tensor
from gradaug.scopes import drawn_from
from netslim.errors import InputError
from netslim.net.runtime import runtime

if TYPE_CHECKING:
    from gradaug.config.sections import RegularizerSettings
    from netslim import SlimNet

Key = tuple[int, ...]


class Regularizer:
    """One of them, with hooks that do nothing unless they are written anew."""

    takes_turns: ClassVar[bool] = False
    """Whether a batch gets one alone of the chosen regularisers that say so, in a share ``mix_probability`` of them."""
    needs_blocks: ClassVar[bool] = False
    """Whether it has its place at residual blocks, so that a network without any is an error."""

    def __init__(self, settings: RegularizerSettings, classes: int) -> None:
        self.settings, self.classes = settings, classes

    def on_batch(self, images: Tensor, labels: Tensor, chance: random.Random) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W), and labels or, where they were mixed, probabilities (N, classes).

        `chance` is fixed by the step; of those that take turns, torch's generators are too.
        """
        return images, labels

    def on_blocks(self, net: SlimNet) -> dict[str, nn.Module]:
        """Modules without parameters between the body and the sum of blocks, by the names of the blocks.

        Each acts in training mode alone and is the identity in evaluation, so that the trained network is complete
        without it. Draws come from torch's global generator of the images' device.
        """
        return {}

    def on_progress(self, share: float) -> None:
        """Before every step: the share of the run that is done, in [0, 1)."""


class Regularizers:
    """Those that the settings name, in the order of their rows; KeyError for a name without a row."""

    def __init__(self, settings: RegularizerSettings, classes: int) -> None:
        rows = {name: REGULARIZERS[name] for name in settings.regularizers}
        names = [name for name in REGULARIZERS if name in rows]
        self.chosen: dict[str, Regularizer] = {name: rows[name].load()(settings, classes) for name in names}
        self.changing = [one for one in self.chosen.values() if type(one).on_batch is not Regularizer.on_batch]
        self.mix_probability = settings.mix_probability

    def on_batch(self, images: Tensor | list[Tensor], labels: Tensor | list[Target], key: Key) -> Batch:
        """A batch as it is trained on; a function of the key, so that a resumed run repeats it.

        DataError for a list of images where a regulariser that changes batches has been chosen.
        """
        return self._on_batch(one_tensor(images), one_tensor(labels), key) if self.changing else (images, labels)

    def _on_batch(self, images: Tensor, labels: Tensor, key: Key) -> Batch:
        chance = random.Random(f"gradaug/mix/{key}")
        turns = [one for one in self.changing if one.takes_turns]
        for one in self.changing:
            if not one.takes_turns:
                images, labels = one.on_batch(images, labels, chance)
        if turns and chance.random() < self.mix_probability:
            with drawn_from(images.device, chance.getrandbits(63)):
                images, labels = chance.choice(turns).on_batch(images, labels, chance)
        return images, labels

    def on_blocks(self, net: SlimNet) -> dict[str, nn.Module]:
        """For `SlimNet.through`; several at one block in a row.

        They act in the passes of the full network and of the sub-networks alike: like dropout they are a part of the
        model that is trained, and the target of a sub-network is what that model said. A block that a sub-network skips
        is not dropped besides. Raises InputError where there are no blocks for them.
        """
        blocks = [block.name for block in runtime(net).plan.blocks]
        wanting = [name for name, one in self.chosen.items() if one.needs_blocks]
        if wanting and not blocks:
            raise InputError(
                f"{flag('regularizers')} {','.join(wanting)} needs residual blocks, but none were found in this "
                "network; leave it out"
            )
        at: dict[str, list[nn.Module]] = {name: [] for name in blocks}
        for one in self.chosen.values():
            for block, module in one.on_blocks(net).items():
                at[block].append(module)
        return {name: made[0] if len(made) == 1 else nn.Sequential(*made) for name, made in at.items() if made}

    def on_progress(self, share: float) -> None:
        for one in self.chosen.values():
            one.on_progress(share)
