"""Full width against the original: outputs, gradients, buffers and the form of the output, in both modes.

Copies of both run side by side: on the example's size and on another batch and resolution, in evaluation and in
training, and once under autocast. What they keep in buffers or in Python goes on from run to run, so that a state
which was not followed shows in one of the later ones. Random numbers begin at the same place in every run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from netslim.errors import InputError, ProofError
from netslim.ir.inputs import Inputs, described, drawn, every_tensor, of_two
from netslim.ir.plan import Plan
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.proof.blame import must_be_the_networks
from netslim.proof.counting import Counting
from netslim.proof.harness import FLOPS_LARGE
from netslim.proof.outcome import CAST, DOUBLE, SINGLE, Call, Outcome, Tolerance, difference, run
from netslim.proof.sizes import batches_of, like_example, others_of
from netslim.trace.meta import at, computed

FLOPS_TINY = 2e8
"""Forward FLOPs up to which gradients are compared in every run."""


@dataclass(frozen=True)
class Difference:
    """What differs, in which run, and in which parts that were followed (by path, what differs there)."""

    call: Call
    what: str
    parts: Mapping[str, str]

    def __str__(self) -> str:
        shapes = ["x".join(map(str, t.shape)) for t in every_tensor(self.call.inputs)]
        return f"{self.what} {self.call.said} on {', '.join(shapes)}"


def parity(model: nn.Module, net: SlimNet) -> Difference | None:
    """The first difference between a model and its conversion at full width; None where there is none.

    Neither is changed. A size that the model refuses is not tried, and one that only the converted network refuses, in
    a sentence, is no difference unless it is the example's. Nor is it one that no part that was followed is to blame
    for, where the model differs from itself as well. Raises ProofError where the model does not run at all.
    """
    pair = Pair(model, net)
    for call, what in _compared(pair, runtime(net).plan):
        if what:
            parts = _to_blame(pair, Difference(call, what, {}))
            if parts or _is_repeatable(pair, call):
                return Difference(call, what, parts)
            pair.renew()
    return None


def same_outputs(model: nn.Module, net: SlimNet) -> bool:
    """Whether both give the same on inputs like the example, bit for bit, in one run in evaluation."""
    return next(Pair(model, net).compared(_FIRST, like_example(runtime(net).plan)), (None, "nothing ran"))[1] == ""


class Pair:
    """A model, or a part of it, and its conversion: copies of both that run side by side, where the model is.

    dtype: of the copies, if it is not to be the model's.
    """

    def __init__(self, model: nn.Module, net: nn.Module, path: str = "", dtype: torch.dtype | None = None) -> None:
        self.model, self.net, self.path, self.dtype = model, net, path, dtype
        self.place = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.renew()

    def renew(self) -> None:
        """Begin again with the states of before, since a run that broke off leaves them apart."""
        self.original, self.converted = (
            at(made if self.dtype is None else made.to(self.dtype), self.path)
            for made in (copied(self.model), copy.deepcopy(self.net))
        )

    def set(self, training: bool) -> None:
        """Puts both in a mode; what of the model stays in another one (a frozen norm) does so in both."""
        self.original.train(training)
        self.converted.train(training)
        modes = {path: module.training for path, module in self.original.named_modules(remove_duplicate=False)}
        for path, module in self.converted.named_modules(remove_duplicate=False):
            module.training = modes.get(path, training)

    def compared(self, call: Call, sizes: Iterable[Inputs]) -> Iterator[tuple[Call, str]]:
        """The call on the first of the sizes that both take, and what differs there; nothing where there is none.

        Where they must be exact, a size that the converted network refuses is a difference if there is no other.
        """
        refused: list[tuple[Call, str]] = []
        for inputs in sizes:
            given = drawn(inputs, torch.Generator().manual_seed(0))
            sized = replace(call, kwargs=tree_map_only(Tensor, lambda t: t.to(self.place), given))
            wanted = self.led(sized)
            what = None if wanted is None else self.followed(sized, wanted)
            if what is not None and what.startswith(_REFUSES):
                refused.append((sized, what))
            elif what is not None:
                yield sized, what
                return
        yield from refused[:1]

    def led(self, call: Call) -> Outcome | None:
        """What the model gives; None where it does not take the size or the mode."""
        self.set(call.training)
        try:
            return run(self.original, call)
        except Exception as error:
            must_be_the_networks(error)
        self.renew()
        return None

    def followed(self, call: Call, wanted: Outcome, tolerance: Tolerance | None = None) -> str | None:
        """What the converted network does otherwise, beyond rounding; None where it refuses a size."""
        tolerance = tolerance or (CAST if call.autocast else SINGLE)
        try:
            what = difference(wanted, run(self.converted, call), tolerance, call.exact)
        except InputError as refusal:
            self.renew()
            return f"{_REFUSES} ({refusal})," if call.exact else None
        except Exception as error:
            must_be_the_networks(error)
            what = f"the answer, which is an error ({type(error).__name__}: {error}),"
        if not what or call.autocast or not _is_rounding(self, call):
            return what
        self.renew()
        return ""


_REFUSES = "the answer, which is a refusal"


def copied(model: nn.Module) -> nn.Module:
    """A copy of a model, also where its modules hold tensors that they computed themselves."""
    return copy.deepcopy(model, computed(model))


# ------------------------------------------------------------------------------------------------------ the runs


def _compared(pair: Pair, plan: Plan) -> Iterator[tuple[Call, str]]:
    """Every run, and what differs in it. Gradients cost most: they are compared on the smallest size that there is.

    A large network runs on the example's size once, and trains on two cheap ones in turns.
    """
    two = of_two(plan.inputs)
    with Counting() as flops:
        example = next(pair.compared(_FIRST, like_example(plan)), None)
    if example is None:
        raise ProofError("the model does not run on inputs like the example, so nothing can be compared with it.")
    yield example
    given = example[0].inputs[1]
    size, tiny, large = [described(given)], flops.total <= 2 * FLOPS_TINY, flops.total > 2 * FLOPS_LARGE
    both = tiny or not all(region.alike for region in plan.regions.values())
    if tiny:
        yield from pair.compared(Call(EVAL, False), size)
    resizings = list(others_of(given, plan, large))
    with Counting() as others:
        other = next(pair.compared(Call(EVAL, False, gradients=both), resizings), None)
    cheap = [] if other is None else [described(other[0].inputs[1])]
    further = [s for s in resizings if s not in cheap] if large and cheap else [two, *size] if tiny else size
    yield from pair.compared(Call(TRAIN, True, gradients=tiny or other is None), further)
    if other is not None:
        yield other
        size = cheap
        yield from pair.compared(Call(TRAIN, True), size)
    elif not large:
        yield from pair.compared(Call(EVAL, False, gradients=False), batches_of(given))
    if other is not None or not large:
        # Gradients in bfloat16 are not the same in two runs of one small network: the outputs tell what autocast chose.
        size = size if others.total < flops.total else [described(given)]  # a network may enlarge what is small
        cast = list(pair.compared(Call(AUTOCAST, True, gradients=False, autocast=True), size))
        yield from cast or pair.compared(Call(AUTOCAST, False, gradients=False, autocast=True), size)


EVAL, TRAIN, AUTOCAST = "in eval mode", "in training mode", "under autocast"
_FIRST = Call(EVAL, False, gradients=False, exact=True)


# ------------------------------------------------------------------------------------------------------ doubts


def _is_rounding(pair: Pair, call: Call) -> bool:
    """Whether a difference is none in double precision, or is as small as those that the model has from itself."""
    if call.exact:
        return _is_equal(Pair(pair.model, pair.net, pair.path), call, SINGLE) and not _is_repeatable(pair, call)
    doubled = Pair(pair.model, pair.net, pair.path, torch.float64)
    return _is_equal(doubled, call.mapped(torch.float64), DOUBLE)


def _is_repeatable(pair: Pair, call: Call) -> bool:
    """Whether the model gives the same twice."""
    return _is_equal(Pair(pair.model, pair.model, pair.path), call, SINGLE, call.exact)


def _is_equal(pair: Pair, call: Call, tolerance: Tolerance, exact: bool = False) -> bool:
    wanted = pair.led(call)
    if wanted is None:
        return False
    del pair.original  # large networks count here
    try:
        return not difference(wanted, run(pair.converted, call), tolerance, exact)
    except Exception as error:
        must_be_the_networks(error)
        return False


# ------------------------------------------------------------------------------------------------------ who is to blame


def _to_blame(pair: Pair, found: Difference) -> dict[str, str]:
    """The parts that differ from the model's on what they get in that run. A network that was followed whole is one.

    Under autocast several may differ by less than counts, and add up.
    """
    plan = runtime(pair.net).plan
    if plan.whole is not None:
        return {"": str(found)}
    wrong = _wrong(pair, list(plan.regions), found)
    return wrong or (_wrong(pair, list(plan.regions), found, SINGLE) if found.call.autocast else wrong)


def wrong_layers(model: nn.Module, net: SlimNet, found: Difference) -> list[str]:
    """The layers whose slim form differs in that run from the model's, which would be a fault of its own."""
    return list(_wrong(Pair(model, net), list(runtime(net).layers), found))


def _wrong(pair: Pair, paths: Sequence[str], found: Difference, tolerance: Tolerance | None = None) -> dict[str, str]:
    wrong: dict[str, str] = {}
    for path, call in _given(pair.model, paths, found.call):
        part = Pair(pair.model, pair.net, path)
        outcome = part.led(call) if path not in wrong else None
        what = part.followed(call, outcome, tolerance) if outcome is not None else ""
        wrong |= {path: str(Difference(call, what, {}))} if what else {}
    return wrong


def _given(model: nn.Module, paths: Sequence[str], call: Call) -> list[tuple[str, Call]]:
    """What the modules at some paths are called with in a run of the model, the first few times."""
    watched, seen = copied(model).train(call.training), list[tuple[str, Call]]()

    def note(path: str) -> Callable[..., None]:
        def see(_module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            if sum(path == known for known, _ in seen) < _CALLS:
                own = tree_map_only(Tensor, lambda t: t.detach().clone(), (args, kwargs))
                seen.append((path, replace(call, args=own[0], kwargs=own[1])))

        return see

    for path in paths:
        at(watched, path).register_forward_pre_hook(note(path), with_kwargs=True)
    run(watched, call)
    return seen


_CALLS = 3
