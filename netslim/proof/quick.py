"""The check of a quick conversion: one run beside the model's, and one sub-network beside the masked network."""

from __future__ import annotations

import random

from torch import nn

from netslim.ir.proof import Proof
from netslim.layouts.axes import Misaligned
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.proof.equivalence import check, draw_counts, draw_run
from netslim.proof.harness import glance
from netslim.proof.parity import same_outputs


def checked(model: nn.Module, net: SlimNet, seed: int = 0) -> Proof | None:
    """A proof that says it was quick; None where that leaves a doubt, which only a whole proof can decide.

    Compared are the outputs in evaluation, on inputs like the example, with the model's, and those of one sub-network
    of random widths and depths with the masked network's. Gradients, training, other sizes, autocast and groups that
    have no effect are not looked at.
    """
    plan = runtime(net).plan
    if not same_outputs(model, net):
        return None
    if not plan.groups and not plan.blocks:
        return Proof(quick=True)
    bench, rng = glance(net, seed), random.Random(seed)
    counts = draw_counts(plan.groups, rng)
    name, run = ("random widths and depths 1", draw_run(plan.blocks, rng)) if plan.blocks else ("random widths 1", ())
    try:
        case, _ = check(bench, counts, False, name, run)
    except Misaligned:
        return None
    return Proof((case,), quick=True) if case.passed and case.effect > bench.tolerance else None
