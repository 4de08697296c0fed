"""The one law of every operator rule: slicing commutes with the operator."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netslim import ops
from netslim.analysis.analyse import analyse
from netslim.layouts.axes import count, positions
from netslim.layouts.binding import cut
from netslim.net.slimnet import SlimNet
from netslim.net.subnet import IndexSets
from netslim.net.tree import slim_tree
from netslim.ops import join
from netslim.proof.masked import MaskedEngine, masked_run


class Example(nn.Module):
    """The tensors that an example asks for, as parameters, and the example as the forward."""

    def __init__(self, example: Callable[..., Any]) -> None:
        super().__init__()
        self.example = example
        self.tensors = nn.ParameterList()
        generator = torch.Generator().manual_seed(0)

        def make(*shape: int) -> Tensor:
            self.tensors.append(nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)))
            return self.tensors[-1]

        with torch.no_grad():
            example(make)

    def forward(self, x: Tensor) -> Tensor:
        stock = iter(self.tensors)
        return self.example(lambda *_: next(stock)) + 0 * x.sum()


def converted(example: Callable[..., Any]) -> SlimNet:
    model = Example(example)
    plan, constants = analyse(model, IMAGE, fix_outputs=False)
    return SlimNet(plan, slim_tree(model), constants).eval()


IMAGE = torch.zeros(2, 1, dtype=torch.float64)


def worst_difference(net: SlimNet, seed: int) -> float:
    """Between a random sub-network's result, and the kept entries of the masked full network's."""
    rng = random.Random(seed)
    counts = {g.name: rng.randint(1, g.size - 1) for g in net.groups}
    with torch.no_grad(), net.sub(counts):
        got = net(IMAGE)
    kept = [((0, k),) for k in counts.values()]
    layouts: list[Any] = []
    original = MaskedEngine.run

    def spy(self: MaskedEngine, call: Any, rule: Any) -> Any:
        out = original(self, call, rule)
        layouts[:] = [self.dims(t) for t in call.outs] or layouts
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskedEngine, "run", spy)
        (full,) = masked_run(net, [IMAGE], kept)
    sets = IndexSets(dict(enumerate(kept)))
    (dims,) = layouts
    for dim, layout in enumerate(dims):
        full = full.index_select(dim, torch.tensor(list(positions(sets.of(layout)))))
        assert got.shape[dim] == count(sets.of(layout))
    return float((got - full).abs().max())


@pytest.mark.parametrize("name", ops.EXAMPLES)
def test_slicing_commutes_with_the_operator(name: str) -> None:
    net = converted(ops.EXAMPLES[name])
    for seed in range(3):
        assert worst_difference(net, seed) < 1e-9


# How many groups each example has. A dimension of n > 1 is one, unless an operator ties, cuts or fixes it: windows and
# kernels, positions, and the smaller factor of a product stay; what meets is one.
GROUPS = {
    # every dimension; operands that meet share theirs
    "add broadcast": 3, "in place": 3, "where": 3, "lerp": 2, "masked_fill": 3, "prelu": 3, "gelu": 2,
    # batch, in, out
    "conv1d": 3, "conv2d": 3, "conv2d same": 3, "conv3d": 3, "transposed": 3,
    "conv2d unbatched": 2, "index_put": 2,
    "grouped": 2, "depthwise": 2, "depthwise multiplier 2": 2,  # batch, the number of groups
    "transposed grouped": 3,  # and the outputs of every group
    "linear": 4, "matmul": 5, "matmul broadcast": 5, "matmul vector": 2, "bmm": 4, "baddbmm": 4,
    "einsum": 5, "einsum batch": 5,
    "attention": 4,  # batch, heads, the two head dimensions
    "batch_norm": 4, "batch_norm training": 4, "instance_norm": 4, "layer_norm": 3, "layer_norm two dims": 3,
    "rms_norm": 3, "group_norm": 4, "group_norm large groups": 4, "group_norm one group": 4,
    # batch and channels
    "max_pool2d": 2, "avg_pool1d": 2, "adaptive_avg_pool3d": 2, "bilinear": 2, "nearest": 2, "reflection pad": 2,
    "pixel_shuffle": 2, "pixel_unshuffle": 2, "unfold": 2, "fold": 2, "max_unpool2d": 2, "max_unpool1d": 2,
    "windows added": 1,  # a row is a signal
    "channel_shuffle": 4,
    "grid_sample": 1,  # the batch is that of a fixed grid
    "mean over space": 4, "mean over channels": 4, "sum of everything but channels": 3, "max with indices": 3,
    "amax over channels": 3, "std": 3, "vector norm over channels": 3, "softmax over channels": 3,
    "log_softmax over space": 3,
    "argmax over channels": 2, "cumsum over channels": 2,
    "flatten": 4, "view merges": 4, "view splits": 3, "reshape across": 3, "torch.reshape": 3, "unflatten": 3,
    "permute": 4, "transpose": 3, "squeeze": 2, "unsqueeze": 2, "expand": 3, "expand channels": 3, "repeat": 3,
    "repeat channels": 3, "broadcast_to": 3, "repeat_interleave": 3, "shuffle by view": 3, "heads": 3,
    "cat": 4, "cat with itself": 3, "cat of cats": 4, "cat of nothing": 2, "stack": 2,
    # batch and pieces
    "split": 4, "uneven split": 3, "tensor_split": 3, "slice": 4, "slice from the end": 4, "narrow": 4,
    "select": 4,  # batch, the channels before and after the one, and the last dimension
    "chunk": 2, "glu": 3, "shuffle after cat": 3,  # halves that are one axis
    "strided slice": 2, "select from qkv": 3, "unbind": 2,
    "channel pad": 6,  # the channels are three: padding, what is padded, padding
    "space pad": 4, "flip": 2, "index": 2, "index_select": 2, "set item": 4, "embedding": 1,
    # indexed, turned, transformed and windowed dimensions stay; the others are batch and channels, or batch and places
    "flip of space": 2, "roll of space": 2, "rot90": 2, "sliding windows": 2, "index_select of places": 2,
    "gather of places": 2, "gather of channels": 2, "take_along_dim": 2, "scatter": 2, "scatter_add": 2,
    "scatter of a value": 2, "index_add": 2, "index_copy": 2, "index_fill": 2, "embedding_bag": 1,
    "select_scatter": 2, "select_scatter of channels": 2, "slice_scatter": 2, "slice_scatter of channels": 2,
    "fft2": 2, "rfft2 and back": 2, "fft over channels": 2, "fftshift": 2, "complex weights": 2,
    "hsplit": 5, "dsplit": 5,  # two dimensions and three pieces
    "tile": 3, "tile channels": 3, "expand_as": 3, "meshgrid": 2, "to the kind of another": 4,
    "view_as": 2,  # of 6 x 4 the larger factor
    "matrix exponential": 1, "linalg.norm": 3, "matrix norm": 3,
    "cross": 2,  # not the three components
    "cdist": 4, "bilinear form": 4, "addbmm": 4, "addr": 2, "addmv": 2, "vdot": 3, "weight_norm": 3,
    "lstm": 3, "gru": 3, "rnn both ways": 3,  # batch, inputs, hidden: one state for both directions
    "lstm_cell": 3, "gru_cell": 3, "rnn_relu_cell": 3,
    "weight_norm of the whole": 3, "weight_norm of inputs": 3, "pdist": 1,  # not the rows of pairs
    "diagonal": 3, "diag_embed": 3, "diag": 2,  # rows and columns are one axis
    "other diagonal": 2, "tril": 2, "squeeze in place": 2, "complex": 3,
    "transpose in place": 4, "swapaxes in place": 4, "t in place": 3,
    "einsum weights": 5, "einsum gate": 4, "einsum dots": 3, "einsum three": 3, "einsum diagonal": 3, "einsum trace": 2,
    "count_nonzero over channels": 3, "cumsum over space": 2, "cumprod over space": 2, "cummax over space": 2,
    "zeros": 3, "new_ones": 3, "full": 2, "full_like": 2, "arange": 1,
}  # fmt: skip


def test_every_example_has_its_number_of_groups() -> None:
    found = {name: len(converted(example).groups) for name, example in ops.EXAMPLES.items()}
    assert found == {name: GROUPS.get(name) for name in found}


def test_a_rule_that_swaps_the_parts_of_a_concatenation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(call: Any) -> None:
        join.cat(call)
        out, tensors = call.outs[0], call.arg("tensors")
        dims = list(call.dims(out))
        parts = [call.dims(t)[1] for t in tensors]
        dims[1] = join.concat(*reversed(parts))
        call.set(out, dims)

    monkeypatch.setitem(ops.RULES, torch.ops.aten.cat, swapped)
    net = converted(lambda r: torch.cat([r(2, 6), r(2, 5)], 1) * r(11))
    assert max(_safe_difference(net, seed) for seed in range(3)) > 1e-3


def test_a_rule_that_passes_a_gate_through_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(call: Any) -> None:
        """The halves of a gated dimension are taken for two axes."""
        x, out = call.tensors[0], call.outs[0]
        call.set(out, [*call.dims(x)[:-1], cut(call.dims(x)[-1], out.shape[-1])[0]])

    monkeypatch.setitem(ops.RULES, torch.ops.aten.glu, halved)
    net = converted(lambda r: torch.nn.functional.glu(r(2, 12)))
    assert max(_safe_difference(net, seed) for seed in range(3)) > 1e-3


def test_a_rule_that_forgets_to_tie_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def loose(call: Any) -> None:
        call.set(call.outs[0], [*call.dims(call.arg("input"))[:-1], call.dims(call.arg("weight"))[0]])

    monkeypatch.setitem(ops.RULES, torch.ops.aten.linear, loose)
    net = converted(lambda r: torch.nn.functional.linear(r(2, 6), r(8, 6)))
    assert max(_safe_difference(net, seed) for seed in range(3)) == float("inf")


def _safe_difference(net: SlimNet, seed: int) -> float:
    try:
        return worst_difference(net, seed)
    except (RuntimeError, AssertionError):
        return float("inf")
