"""How a network is given smaller images and what of it is narrowed: what a task says before any sub-network runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from gradaug.inputs import blank_images, image_shape
from gradaug.subnets.resize import resize

if TYPE_CHECKING:
    from netslim import SlimNet


class Scaling:
    """For networks that take images in one tensor (N, C, H, W). Tasks inherit from it."""

    scope: ClassVar[str] = "all"
    """What sub-networks narrow where no ``--scope`` is given: "all", or the path of a module."""

    def blank(self, net: SlimNet, count: int = 2) -> Any:
        """Zero images as the network takes them, to try it on."""
        return blank_images(net, count)

    def side(self, net: SlimNet) -> int | None:
        """The shorter side of an image, in pixels as the network sees it; None where images are no pictures."""
        shape = image_shape(net)
        return min(shape[1:]) if len(shape) == 3 else None

    def resized(self, images: Any, target: Any, side: int | None) -> tuple[Any, Any]:
        """Images with their shorter side at `side`, and the target that goes with them."""
        return resize(images, side), target

    @contextlib.contextmanager
    def scaled(self, net: SlimNet, images: Any, target: Any, side: int | None) -> Iterator[tuple[Any, Any]]:
        """Inside, `net` sees these images with their shorter side at `side` pixels when it is given what is yielded."""
        yield self.resized(images, target, side)


PLAIN = Scaling()
