"""`netslim.convert`: analyse, rewrite, prove, and freeze what cannot be proved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from netslim.analysis.analyse import analyse
from netslim.analysis.overrides import Overrides
from netslim.errors import ProofError
from netslim.ir.inputs import Arguments, Inputs, drawn, every_tensor, of_one, of_two
from netslim.ir.plan import Plan, freeze_groups, refuse_blocks
from netslim.ir.proof import Proof
from netslim.layouts.axes import Misaligned, Reason
from netslim.layouts.engine import Rule
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.net.tree import shell_tree, slim_tree
from netslim.proof.equivalence import failing_blocks, failing_groups, judge
from netslim.proof.harness import prepare
from netslim.source.wrapped import unwrapped
from netslim.trace.contexts import fast_path_off
from netslim.trace.meta import computed
from netslim.trace.randomness import own_random_numbers

Progress = Callable[[str, float], None]


def convert(
    model: nn.Module,
    example_inputs: object,
    *,
    prove: bool = True,
    fixed_size: bool = False,
    freeze: Sequence[str] = (),
    tie: Sequence[tuple[str, str]] = (),
    rules: Mapping[Any, Rule] | None = None,
    progress: Progress | None = None,
) -> SlimNet:
    """A network of the same weights that can run at any width. `model` and the global random numbers are not changed.

    example_inputs: a tensor (N, C, ...), a tuple of positional arguments, or a dict of keyword arguments of forward;
    only shapes and dtypes matter. With `prove`, random sub-networks are held to mask-equivalence; groups that fail are
    frozen with the reason, and the proof is repeated.
    freeze: layers, parameters or groups (wildcards allowed) that stay at full width. tie: pairs of groups or parameters
    that are to keep the same channels. rules: {'library::operator': rule} for operators that netslim does not know,
    where rule(call) says how dimensions of operands and results are tied (docs/rules.md); the proof checks it.
    fixed_size: where forward takes other steps on other sizes (a loop over rows, frames or the batch), write down those
    for the example's size, and refuse any other with the line; without it, the module that does so stays Python.
    A model in DataParallel, DistributedDataParallel or torch.compile is converted without that.
    Raises InputError when the inputs do not fit or a name fits nothing, TraceError when forward fails or cannot be
    followed, ProofError when the converted network differs from the model at full width.
    """
    with own_random_numbers():
        overrides = Overrides(freeze, tie, rules or {}, fixed_size)
        return _converted(unwrapped(model), example_inputs, overrides, prove, progress or _silent)


def _converted(model: nn.Module, example_inputs: object, overrides: Overrides, prove: bool, say: Progress) -> SlimNet:
    say("trace", 0.0)
    plan, constants = analyse(model, example_inputs, overrides=overrides)
    say("trace", 1.0)
    net = _build(plan, model, constants)
    if overrides.rules:
        runtime(net).rules = overrides.all_rules
    if prove and not any(t.is_meta for t in net.parameters()):
        say("prove", 0.0)
        check_full_width(model, net)
        net = _proved(net, say)
        say("prove", 1.0)
    return net


def _silent(_stage: str, _done: float) -> None:
    """No progress is shown."""


def _build(plan: Plan, model: nn.Module, constants: dict[str, Tensor]) -> SlimNet:
    tree = shell_tree(model) if plan.whole is None else slim_tree(model)
    net = SlimNet(plan, tree, constants)
    net.training = model.training
    modes = {path: module.training for path, module in model.named_modules(remove_duplicate=False)}
    for path, module in net.named_modules(remove_duplicate=False):
        module.training = modes.get(path, model.training)
    return net


def check_full_width(model: nn.Module, net: SlimNet) -> None:
    """Raises ProofError unless both give bit-identical outputs in eval mode on random inputs of the example's shape.

    Copies of both run, twice: what a forward keeps in buffers or in Python shows in the second run, and nowhere else.
    """
    try:  # one image: a batch of the example's size might be written into the program
        inputs = _drawn_for(model, of_one(runtime(net).plan.inputs))
        wanted = _two_runs(_copied(model), inputs)
    except Exception:
        inputs = _drawn_for(model, of_two(runtime(net).plan.inputs))
        wanted = _two_runs(_copied(model), inputs)
    for a, b in zip(wanted, _two_runs(copy.deepcopy(net), inputs), strict=True):
        if not _equal(a, b):
            raise ProofError(
                "the converted network differs from the model at full width, so the model does something that was not "
                "recorded (random numbers or Python state in eval mode?); please report it with the model."
            )


def _copied(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model, computed(model))


def _two_runs(net: nn.Module, inputs: Mapping[str, object]) -> list[Tensor]:
    net.eval()
    with torch.no_grad(), fast_path_off(), own_random_numbers():
        return [t.clone() for _ in range(2) for t in every_tensor(net(**copy.copy(inputs)))]


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def _drawn_for(model: nn.Module, inputs: Inputs) -> Arguments:
    made: Arguments = tree_map_only(
        Tensor, lambda t: t.to(_place(model)), drawn(inputs, torch.Generator().manual_seed(0))
    )
    return made


def _place(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


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
        plan = freeze_groups(refuse_blocks(held.plan, blocks, _UNPROVED.text), groups)
        for rebuilt in (net, bench.net):
            runtime(rebuilt).rebuilt(plan)
        if not plan.groups and not plan.blocks:
            break
    return net


_ATTEMPTS = 4
_UNPROVED = Reason("its sub-networks differ from the masked full network, so it was frozen by the proof")
