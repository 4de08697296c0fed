"""`netslim.convert`: analyse, rewrite, prove, and freeze what cannot be proved."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from netslim.analysis.analyse import analyse
from netslim.analysis.overrides import Overrides
from netslim.errors import InputError, ProofError, TraceError
from netslim.ir.plan import Plan, freeze_groups, refuse_blocks
from netslim.ir.proof import Proof
from netslim.ir.tie_checks import explained
from netslim.layouts.axes import Misaligned, Reason
from netslim.layouts.engine import Rule
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.net.tree import shell_tree, slim_tree
from netslim.proof.equivalence import failing_blocks, failing_groups, judge
from netslim.proof.harness import prepare
from netslim.proof.parity import Difference, parity, wrong_layers
from netslim.proof.quick import checked
from netslim.source.described import described
from netslim.source.wrapped import unwrapped
from netslim.trace.contexts import only_new_garbage
from netslim.trace.meta import at
from netslim.trace.randomness import own_random_numbers

Progress = Callable[[str, float], None]


def convert(
    model: nn.Module,
    example_inputs: object,
    *,
    prove: bool = True,
    quick: bool = False,
    fixed_size: bool = False,
    freeze: Sequence[str] = (),
    tie: Sequence[tuple[str, str]] = (),
    rules: Mapping[Any, Rule] | None = None,
    progress: Progress | None = None,
) -> SlimNet:
    """A network of the same weights that can run at any width. `model` and the global random numbers are not changed.

    example_inputs: a tensor (N, C, ...), a tuple of positional arguments, or a dict of keyword arguments of forward;
    only shapes and dtypes matter. With `prove`, random sub-networks are held to mask-equivalence; groups that fail are
    frozen with the reason, and the proof is repeated. With `quick`, for those who try things out, all of that is one
    check: the outputs on the example's size in eval mode, and one sub-network (docs/convert.md, "Quickly"). The proof
    of the network says so, and `load` warns of its file. Where the check finds something wrong, the proof is done.
    freeze: layers, parameters or groups (wildcards allowed) that stay at full width. tie: pairs of groups or parameters
    that are to keep the same channels. rules: {'library::operator': rule} for operators that netslim does not know,
    where rule(call) says how dimensions of operands and results are tied (docs/rules.md); the proof checks it.
    fixed_size: where forward takes other steps on other sizes (a loop over rows, frames or the batch), write down those
    for the example's size, and refuse any other with the line; without it, the module that does so stays Python.
    A model in DataParallel, DistributedDataParallel or torch.compile is converted without that.
    The network also has the model's attributes that are plain data, as they are now, and ``no_weight_decay()`` and
    ``group_matcher()`` of timm's models; it does not read them.
    Raises InputError when the inputs do not fit, a name fits nothing or `quick` comes without `prove`, TraceError when
    forward fails or cannot be followed, ProofError when the converted network differs from the model at full width.
    """
    if quick and not prove:
        raise InputError("quick=True is a short form of the proof, which prove=False leaves out; say one of them.")
    with own_random_numbers(), only_new_garbage():
        overrides = Overrides(freeze, tie, rules or {}, fixed_size)
        return _converted(unwrapped(model), example_inputs, overrides, prove, quick, progress or _silent)


def _converted(
    model: nn.Module, example_inputs: object, overrides: Overrides, prove: bool, quick: bool, say: Progress
) -> SlimNet:
    say("trace", 0.0)
    net = _analysed(model, example_inputs, overrides, {})
    say("trace", 1.0)
    if not prove or any(t.is_meta for t in net.parameters()):
        return net
    if quick:
        say("check", 0.0)
        runtime(net).proof = checked(model, net)
        say("check", 1.0)
    if runtime(net).proof is None:
        say("prove", 0.0)
        net = _proved(_equal(model, example_inputs, overrides, net), say)
        say("prove", 1.0)
    return net


def _analysed(model: nn.Module, example_inputs: object, overrides: Overrides, python: Mapping[str, str]) -> SlimNet:
    plan, constants = analyse(model, example_inputs, overrides=overrides, python=python)
    net = _build(explained(plan), model, constants)
    if overrides.rules:
        runtime(net).rules = overrides.all_rules
    return net


def _silent(_stage: str, _done: float) -> None:
    """No progress is shown."""


def _build(plan: Plan, model: nn.Module, constants: dict[str, Tensor]) -> SlimNet:
    tree = shell_tree(model) if plan.whole is None else slim_tree(model)
    net = SlimNet(plan, tree, constants)
    vars(net).update({name: value for name, value in described(model).items() if not hasattr(net, name)})
    net.training = model.training
    modes = {path: module.training for path, module in model.named_modules(remove_duplicate=False)}
    for path, module in net.named_modules(remove_duplicate=False):
        module.training = modes.get(path, model.training)
    return net


def _equal(model: nn.Module, example_inputs: object, overrides: Overrides, net: SlimNet) -> SlimNet:
    """A conversion that does what the model does: what would not stays Python. Raises ProofError where that fails."""
    python: dict[str, str] = {}
    while (found := parity(model, net)) is not None:
        if not found.parts:
            raise ProofError(
                f"the converted network differs from the model at full width: {found}{_where(model, net, found)}; "
                "please report it with the model."
            )
        python |= {path: _kept(model, path, what) for path, what in found.parts.items()}
        try:
            net = _analysed(model, example_inputs, overrides, python)
        except TraceError as refusal:
            raise ProofError(f"{' '.join(python.values())} That does not help: {refusal}") from refusal
    return net


def _kept(model: nn.Module, path: str, what: str) -> str:
    """Why a module stays Python."""
    named = f"{path or 'the model'} ({_source(at(model, path))})"
    return f"Followed, {named} would differ from the original: {what}. So its Python runs as it is."


def _where(model: nn.Module, net: SlimNet, found: Difference) -> str:
    """The first layer that differs, or else the model as a whole: none of its parts does."""
    path = next(iter(wrong_layers(model, net, found)), "")
    return f", in {path or 'the model'} ({_source(at(model, path))})"


def _source(module: nn.Module) -> str:
    """The class of a module, and where its forward is."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    name = type(module).__name__
    return f"{name}, {os.path.basename(code.co_filename)}:{code.co_firstlineno}" if code else name


def _proved(net: SlimNet, say: Progress) -> SlimNet:
    """The network with a passed proof, without the groups and blocks that had to be frozen for it."""
    held = runtime(net)
    held.proof = Proof()
    if not held.plan.groups and not held.plan.blocks:
        return net
    bench = prepare(net)
    for attempt in range(_ATTEMPTS):
        groups: Mapping[int, Reason] = {}
        blocks: set[int] = set()
        try:
            proof = judge(bench, seed=attempt)
            if proof.passed:
                held.proof = proof
                return net
            say("prove", 0.5)
            groups = dict.fromkeys(failing_groups(bench, seed=attempt * 1000), _UNPROVED)
            blocks = failing_blocks(bench)
        except Misaligned as error:  # it says itself what cannot be narrowed
            groups = error.groups
        if (not groups and not blocks) or attempt == _ATTEMPTS - 1:
            groups, blocks = dict.fromkeys(range(len(held.plan.groups)), _UNPROVED), set(range(len(held.plan.blocks)))
        plan = explained(freeze_groups(refuse_blocks(held.plan, blocks, _UNPROVED.text), groups))
        for rebuilt in (net, bench.net):
            runtime(rebuilt).rebuilt(plan)
        if not plan.groups and not plan.blocks:
            break
    return net


_ATTEMPTS = 4
_UNPROVED = Reason("its sub-networks differ from the masked full network, so it was frozen by the proof")
