"""Which channel of which group stands at each index of a dimension."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from netslim.layouts.axes import Concat, Elastic, Layout, Product, resolve

NO_CHANNEL = -1


def channels(layout: Layout) -> Iterator[tuple[int, Tensor]]:
    """(group, the channel at each index) for every occurrence of a group in a solved layout.

    NO_CHANNEL stands where an index of a concatenation lies in another part. An index of a product has a channel of
    each factor; one of a group that occurs twice in it has two, in two pairs.
    """
    layout = resolve(layout)
    if isinstance(layout, Elastic):
        yield layout.group, torch.arange(layout.size)
    elif isinstance(layout, Concat):
        start = 0
        for part in layout.parts:
            for group, found in channels(part):
                whole = torch.full((layout.size,), NO_CHANNEL)
                whole[start : start + part.size] = found
                yield group, whole
            start += part.size
    elif isinstance(layout, Product):
        before, after = 1, layout.size
        for factor in layout.factors:
            after //= factor.size
            for group, found in channels(factor):
                yield group, found.repeat_interleave(after).repeat(before)
            before *= factor.size


def by_channel(values: Tensor, layout: Layout) -> dict[int, Tensor]:
    """The values at the indices of a dimension, summed by the channels of every group in its layout."""
    sums: dict[int, Tensor] = {}
    for group, found in channels(layout):
        here = found != NO_CHANNEL
        index, size = found[here].to(values.device), int(found.max()) + 1
        added = values.new_zeros(size).index_add_(0, index, values[here.to(values.device)])
        sums[group] = sums[group] + added if group in sums else added
    return sums
