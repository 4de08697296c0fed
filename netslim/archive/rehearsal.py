"""A network that was read from a file, run without values before anybody uses it.

Once at full width under the operator rules, which contradict a plan whose layouts are not those of its program; once
narrow and without its blocks, where wrong cuts, sizes and settings show. Parameters are on the meta device: nothing is
computed, and no step gets to make a tensor larger than a network has.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from netslim.ir.inputs import Input, every_tensor
from netslim.ir.program import LIFTED
from netslim.layouts.axes import Const, Layout, Misaligned, count
from netslim.layouts.engine import Call, Engine, Rule
from netslim.net.runtime import named_tensors, runtime
from netslim.net.slimnet import SlimNet
from netslim.net.subnet import IndexSets
from netslim.net.tree import Table
from netslim.proof.equivalence import draw_counts
from netslim.trace.contexts import fast_path_off

LARGEST = 1 << 31
"""Numbers in one tensor."""

REAL = 1 << 24
"""Numbers in one tensor whose values are worked out: tables of indices that programs make."""

REAL_TOGETHER = 1 << 26
"""Numbers in all of them together."""

HEAVY = 1 << 16
"""Numbers that a step which is neither pointwise nor a view may be given where values are worked out."""

OPERATORS = 200_000
"""Operators in one run."""

PIECES = 1 << 16
"""Tensors that one step gives."""


class Failed(Exception):
    """The network does not run, or not as its plan says; the text is a clause."""


def rehearse(net: SlimNet, *, typed: bool = True) -> None:
    """Raises Failed unless the network runs at full width, narrow, and without its blocks, in both modes.

    typed: hold its layouts to the operator rules (a person's own rules are not in a file).
    """
    training, rng, plan = net.training, random.Random(0), runtime(net).plan
    widths = {group.name: k for group, k in zip(plan.groups, draw_counts(plan.groups, rng), strict=True)}
    none = {block.name: False for block in plan.blocks}
    whole = plan.regions[""]
    try:
        for mode in (False,) if whole.same else (False, True):
            with _without_values(net) as tensors:
                outputs = _full(net.train(mode), tensors, typed)
            for training_form, depth in ((mode, {}), (mode or whole.same, none)):
                with _without_values(net), net.train(training_form).sub(widths, depth):
                    narrow = _run(net, Rehearsal(runtime(net).rules))
                _compare(outputs, narrow, list(widths.values()))
    finally:
        net.train(training)


def _full(net: SlimNet, tensors: Mapping[str, Tensor], typed: bool) -> list[tuple[Tensor, Sequence[Layout]]]:
    """The outputs at full width, and their layouts."""
    engine = Typed(runtime(net).rules) if typed else Rehearsal(runtime(net).rules)
    for name, layouts in runtime(net).plan.layouts.items():
        engine.set(tensors[name], layouts)
    outputs = _run(net, engine)
    return [(out, engine.dims(out)) for out in outputs]


def _compare(full: Sequence[tuple[Tensor, Sequence[Layout]]], narrow: Sequence[Tensor], widths: list[int]) -> None:
    sets = IndexSets({i: ((0, k),) for i, k in enumerate(widths)})
    wanted = [([count(sets.of(d)) for d in dims], out.dtype) for out, dims in full]
    if wanted != [(list(out.shape), out.dtype) for out in narrow]:
        raise Failed("its sub-networks give other outputs than its plan says")


def _run(net: SlimNet, engine: Engine) -> list[Tensor]:
    inputs = tree_map(lambda leaf: _blank(leaf) if isinstance(leaf, Input) else leaf, dict(runtime(net).plan.inputs))
    for tensor in every_tensor(inputs):
        engine.set(tensor, list(map(Const, tensor.shape)))
    try:
        with torch.inference_mode(), fast_path_off(), engine:
            found = list(every_tensor(net(**inputs)))
    except Failed:
        raise
    except Misaligned as error:
        raise Failed(f"its layouts are not those of its program ({error})") from error
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), "")
        raise Failed(f"its program does not run ({type(error).__name__}: {line})") from error
    if not found:
        raise Failed("it gives no tensor")
    return found


def _blank(leaf: Input) -> Tensor:
    return torch.empty(leaf.shape, dtype=leaf.dtype, device="meta")


@contextlib.contextmanager
def _without_values(net: SlimNet) -> Iterator[dict[str, Tensor]]:
    """Tensors on the meta device in the place of the network's own, until it closes; by name, under all their names.

    Integers keep their values, in copies, and so do the constants of programs: forwards index with them.
    """
    made: dict[int, Tensor] = {}
    tables: list[Table] = []
    for module in net.modules():
        tables += [module._parameters, module._buffers]
    before = [dict(table) for table in tables]
    constants = {id(b) for n, b in net.named_buffers(remove_duplicate=False) if LIFTED in n.split(".")}

    def stand_in(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            valued = id(tensor) in constants or not (tensor.is_floating_point() or tensor.is_complex())
            made[id(tensor)] = tensor.detach().clone() if valued else torch.empty_like(tensor, device="meta")
        return made[id(tensor)]

    names = named_tensors(net)
    try:
        for table in tables:
            for name, tensor in table.items():
                table[name] = None if tensor is None else stand_in(tensor)
        yield {name: stand_in(tensor) for name, tensor in names.items()}
    finally:
        for table, held in zip(tables, before, strict=True):
            table.clear()
            table.update(held)


class Rehearsal(Engine):
    """Runs operators as the engine does, with limits on what is made, and types nothing."""

    operators = 0
    real = 0
    """Numbers in the tensors whose values were worked out."""

    def run(self, call: Call, rule: Rule) -> object:
        self.operators += 1
        if self.operators > OPERATORS:
            raise Failed(f"it runs more than {OPERATORS:,} operators")
        _limit(call)
        out = self.made(call, rule)
        for tensor in call.outs:
            self.real += 0 if tensor.is_meta else tensor.numel()
            if tensor.numel() > LARGEST:
                raise Failed(f"a step makes a tensor of {tensor.numel():,} numbers")
        if self.real > REAL_TOGETHER:
            raise Failed(f"its tables have more than {REAL_TOGETHER:,} numbers together")
        return out

    def made(self, call: Call, rule: Rule) -> object:
        call.execute()
        return call.out


class Typed(Rehearsal):
    """The same under the operator rules."""

    def made(self, call: Call, rule: Rule) -> object:
        return Engine.run(self, call, rule)


def _limit(call: Call) -> None:
    """Raises Failed before a step takes more memory or time than it may, or is given what it would refuse."""
    given, name = call.tensors, call.name.rpartition(".")[2]
    longest = max(given[0].shape, default=0) if given else 0
    if name in _PIECEWISE and longest > PIECES:
        raise Failed(f"a step gives, or goes through, more than {PIECES:,} tensors")
    _check_dtypes(call, given)
    _check_lengths(call)
    _check_indices(call, name)
    if not any(t.is_meta for t in given):
        if _COSTLY.fullmatch(name) and sum(t.numel() for t in given) > HEAVY:
            raise Failed(f"{call.name} is given more than {HEAVY:,} numbers to work out")
        _limit_real(call, name)


def _check_indices(call: Call, name: str) -> None:
    """Indices whose values are known lie within what they index, which the meta device cannot see."""
    if name in ("index_select", "gather", "take_along_dim"):
        x, dim, index = call.arg("self"), call.arg("dim", 0), call.arg("index")
        pairs = [(index, x.shape[dim] if x.dim() else 1)] if isinstance(x, Tensor) and isinstance(dim, int) else []
    elif name == "embedding":
        pairs = [(call.arg("indices"), call.arg("weight").shape[0])]
    elif name == "index":
        found = call.arg("indices")
        pairs = [(t, n) for t, n in zip(found, call.arg("self").shape, strict=False) if t is not None]
    else:
        return
    for index, size in pairs:
        known = isinstance(index, Tensor) and not index.is_meta and index.numel() and index.dtype in _INDICES
        if known and not (-size <= int(index.min()) and int(index.max()) < size):
            raise Failed(f"{call.name} is given an index beyond the {size} entries that there are")


def _check_dtypes(call: Call, given: Sequence[Tensor]) -> None:
    """The dtypes that layers need, which the meta device does not ask for."""
    name = call.name.rpartition(".")[2]
    if name in _ONE_DTYPE:
        dtypes = {t.dtype for t in given if t.is_floating_point() or t.is_complex()}
    elif name in _NORMS:
        own = {t.dtype for t in given[1:]}
        reduced = given[0].dtype in (torch.float16, torch.bfloat16) and own <= {torch.float32}
        dtypes = own if reduced else own | {given[0].dtype}
    else:
        return
    if len(dtypes) > 1 or not all(d.is_floating_point or d.is_complex for d in dtypes):
        raise Failed(f"{call.name} is given {' and '.join(sorted(map(str, dtypes)))}")


def _check_lengths(call: Call) -> None:
    """A stride, padding or dilation for every dimension that a convolution runs along, likewise."""
    weight = call.arg("weight")
    if not call.name.rpartition(".")[2].startswith("conv") or not isinstance(weight, Tensor):
        return
    for argument in ("stride", "padding", "dilation", "output_padding"):
        given = call.arg(argument)
        if isinstance(given, (list, tuple)) and len(given) not in (0, 1, weight.dim() - 2):
            raise Failed(f"{call.name} is given {len(given)} numbers for {argument}")


def _limit_real(call: Call, name: str) -> None:
    """The same for a step whose values are worked out: its result is measured without values first."""
    numbers = [n for n in tree_leaves((call.args, call.kwargs)) if isinstance(n, int)]
    if any(abs(n) > LARGEST for n in numbers):
        raise Failed(f"{call.name} is given a number above {LARGEST:,}")
    args, kwargs = tree_map_only(Tensor, lambda t: t.to("meta"), (call.args, call.kwargs))
    names = {argument.name for argument in call.func._schema.arguments}
    device = {"device": torch.device("meta")} if "device" in names else {}
    try:
        made = call.func(*args, **{**kwargs, **device})
    except Exception:  # its size depends on values
        whole = [t for t in call.tensors if t.dtype in _INDICES and t.numel()]
        sizes = [int(t.sum() if name == "repeat_interleave" else t.max()) for t in whole] if name in _BY_VALUE else []
        if any(abs(n) > REAL for n in (*numbers, *sizes)):
            raise Failed(f"{call.name} is given a number above {REAL:,}") from None
        return
    for tensor in tree_leaves(made):
        if isinstance(tensor, Tensor) and tensor.numel() > REAL:
            raise Failed(f"a step makes a table of {tensor.numel():,} numbers")


_INDICES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_BY_VALUE = ("repeat_interleave", "bincount", "one_hot")
_COSTLY = re.compile(
    r"linalg_.*|.*(svd|eig|inverse|attention|cdist).*|cholesky.*|lu.*|qr|det|logdet|slogdet|matrix_.*|matmul|mm|bmm|addmm"
    r"|baddbmm|addbmm|mv|addmv|dot|vdot|inner|tensordot|kron|conv.*|lstm|gru|rnn.*|bilinear|ormqr|orgqr|geqrf|lstsq"
    r"|triangular_solve"
)
"""Operators that take more than a few operations a number."""

_PIECEWISE = frozenset(
    "unbind chunk split unsafe_chunk unsafe_split tensor_split split_with_sizes hsplit vsplit dsplit "
    "lstm gru rnn_tanh rnn_relu".split()
)
_ONE_DTYPE = frozenset(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution linear matmul mm bmm addmm "
    "baddbmm addbmm mv addmv dot bilinear lstm gru rnn_tanh rnn_relu".split()
)
"""Operators that refuse operands of different dtypes, but for on the meta device."""

_NORMS = frozenset("batch_norm instance_norm layer_norm group_norm rms_norm".split())
"""Operators that take parameters in single precision beside half-precision images."""
