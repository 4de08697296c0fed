"""One exchange of gradients a step where another library has put DistributedDataParallel around the network.

    with one_exchange(wrapper):
        for loss in ga.losses(images, labels):
            loss.backward()

The wrapper would exchange the gradients of the first pass and none of the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gradaug.distributed.processes import average_gradients, current
from netslim.errors import InputError


@contextlib.contextmanager
def one_exchange(wrapper: nn.Module) -> Iterator[None]:
    """Around the passes on a part of a step: the wrapper exchanges nothing, and at the end all gradients are averaged.

    Under the wrapper's ``no_sync``, as around parts that do not end a step, nothing is exchanged at all. Buffers are
    made those of rank 0 by the next forward, as ever. Raises InputError where there are several processes and `wrapper`
    is none.
    """
    if not isinstance(wrapper, DistributedDataParallel):
        if current().size > 1:
            raise InputError(
                f"{current().size} processes train a {type(wrapper).__name__}: sub-networks train in one process or "
                "under DistributedDataParallel, so choose DDP as the strategy"
            )
        yield
        return
    due, wrapper.require_backward_grad_sync = wrapper.require_backward_grad_sync, False
    try:
        yield
    finally:
        wrapper.require_backward_grad_sync = due
    if due:
        average_gradients(wrapper.parameters())
        wrapper.require_forward_param_sync = True
