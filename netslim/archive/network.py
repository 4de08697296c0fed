"""Writing a converted network to a file, and reading one.

Reading executes nothing that the file brings. Its bytes are held to their checksums, its document to a schema with
limits, the parts of the document to each other and to the tensors, and the network that results is run without values
(at full width, narrow, and without its blocks) before anybody gets it.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from netslim.archive import container, python
from netslim.archive import schema as s
from netslim.archive.building import Unbuilt, built, check_dtypes, named_tensors
from netslim.archive.literals import float_data, value_from
from netslim.archive.modules import below, stored
from netslim.archive.plans import plan_data, plan_from, text
from netslim.archive.rehearsal import Failed, rehearse
from netslim.errors import ArchiveError, NetslimError, NotProved, PlanError
from netslim.ir.inputs import tensors_in
from netslim.ir.plan import Plan
from netslim.ir.plan_checks import every_program
from netslim.ir.program import LIFTED, is_listed
from netslim.ir.proof import QUICK, TO_PROVE, Case, Proof
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.ops import RULES
from netslim.source.sharded import unsharded
from netslim.source.weights import is_of_torch

FORMAT, VERSION = "netslim", 3
LARGEST_INPUT = 1 << 27
"""Numbers in the example inputs together."""


def save(net: SlimNet, path: str | os.PathLike[str]) -> None:
    """Write a converted network, atomically; where it is sharded, every process calls this, for a path of its own.

    Raises ArchiveError when it cannot be stored or the file not written.
    """
    net = unsharded(net)
    found, held = stored(net), runtime(net)
    constants = {n: b for n, b in net.named_buffers(remove_duplicate=False) if LIFTED in n.split(".")}
    tensors = found.tensors | constants
    pickled = None
    if found.python:
        modules = {path: module for path, module in below(net) if module is not None}
        key = "python" + "_" * max((len(name) for name in tensors), default=0)
        tensors[key] = python.dump(found, modules | {"": held.top})
        pickled = s.PythonData(list(map(text, python.names(found.python))), key)
    try:
        document = s.Document(
            plan=plan_data(held.plan),
            modules=found.entries,
            constants=list(constants),
            proof=None if held.proof is None else _proof_data(held.proof),
            python=pickled,
            rules=sorted({str(name) for name, rule in held.rules.items() if RULES.get(name) is not rule}),
            torch=str(torch.__version__),
        )
        encoded = s.encode(document)
        s.decode(encoded, s.Document)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArchiveError(f"{held.plan.model or 'the network'} cannot be stored: {_line(error)}.") from error
    container.write(Path(path), FORMAT, VERSION, encoded, tensors)


def load(path: str | os.PathLike[str], *, trust: bool = False) -> SlimNet:
    """Read a converted network onto the CPU, in eval mode; warns (NotProved) of one that was only checked quickly.

    trust: a network whose forward could not be followed as a whole keeps classes of the model's; they are imported, and
    their objects unpickled, only when you say that you trust the file.
    Raises ArchiveError when the file is missing, damaged, foreign, of another format, or needs trust.
    """
    path = Path(path)
    content = _content(path)
    try:
        net = _network(content, path, trust).eval()
    except (Unbuilt, PlanError, Failed, ValueError) as error:
        raise ArchiveError(f"{path} is damaged: {_line(error)}; convert the model again.") from error
    except NetslimError:
        raise
    except Exception as error:  # what no check foresees: still a sentence
        raise ArchiveError(f"{path} is damaged: its contents do not fit together ({type(error).__name__}).") from error
    proof = runtime(net).proof
    if proof is not None and proof.quick:
        warnings.warn(f"{path} is {QUICK} ({TO_PROVE}).", NotProved, stacklevel=2)
    return net


def tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The parameters and buffers in a file of a converted network, by name; no network is made, and nothing is run.

    Raises ArchiveError when the file is missing, damaged, foreign or of another format.
    """
    content = _content(Path(path))
    try:
        document = s.decode(content.document, s.Document)
    except ValueError as error:
        raise ArchiveError(f"{path} is damaged: {_line(error)}; convert the model again.") from error
    own = {*document.constants, *([] if document.python is None else [document.python.tensor])}
    return {name: tensor for name, tensor in content.tensors.items() if name not in own}


def _content(path: Path) -> container.Content:
    if not path.exists():
        raise ArchiveError(f"{path} does not exist; write it with 'netslim convert SOURCE -o {path}'.")
    if path.is_dir():
        raise ArchiveError(f"{path} is a folder; name the converted file in it.")
    try:
        content = container.read(path)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror or error}.") from error
    except container.Damaged as error:
        if is_of_torch(path):
            raise ArchiveError(
                f"{path} is no converted network but a file of torch.save (a checkpoint, or a converted network of "
                "before format 3); convert the model again with 'netslim convert'."
            ) from error
        raise ArchiveError(f"{path} is {error}; write it with 'netslim convert SOURCE -o {path}'.") from error
    if content.kind != FORMAT:
        raise ArchiveError(f"{path} is no converted network but a file of {text(content.kind)[:40]!r}.")
    if content.version > VERSION:
        raise ArchiveError(
            f"{path} was written by a newer netslim (format {content.version} > {VERSION}); upgrade netslim."
        )
    if content.version < VERSION:
        raise ArchiveError(f"{path} is of format {content.version}, and {VERSION} is read; convert the model again.")
    return content


def _network(content: container.Content, path: Path, trust: bool) -> SlimNet:
    document = s.decode(content.document, s.Document)
    if document.python is not None and not trust:
        classes = ", ".join(document.python.classes[-3:])[:200]
        raise ArchiveError(
            f"{path} needs code of its model ({classes}), whose forward could not be followed as a whole; if you trust "
            "the file, load it with trust=True, or --trust."
        )
    plan = plan_from(document.plan)
    if plan.whole is None and document.python is None:
        raise ValueError("it has neither a program of the whole network nor Python of its model")
    names = [group.name for group in plan.groups] + [block.name for block in plan.blocks]
    if not all(map(str.isprintable, names)):
        raise ValueError("a group or a block of it has a name that cannot be printed")
    _check_inputs(plan)
    _check_operators(plan, path, trust)
    if document.rules and not trust:
        raise ArchiveError(
            f"{path} was converted with rules of somebody's own for operators, which cannot be checked here; if you "
            "trust the file, load it with trust=True, or --trust."
        )
    _check_tensors(document, content.tensors)
    own = None if document.python is None else python.Shells(content.tensors[document.python.tensor], path.parent)
    tree = built(document.modules, content.tensors, own)
    if own is not None:
        modules = {path: module for path, module in below(tree) if module is not None}
        held = dict(tree.named_parameters(remove_duplicate=False)) | dict(tree.named_buffers(remove_duplicate=False))
        own.fill({"": tree, **modules}, held)
    check_dtypes(tree)
    net = SlimNet(plan, tree, {name: content.tensors[name] for name in document.constants})
    runtime(net).proof = None if document.proof is None else _proof_from(document.proof)
    if plan.whole is not None:
        rehearse(net, typed=not document.rules)
    return net


def _check_inputs(plan: Plan) -> None:
    for inputs in (plan.inputs, *(region.inputs for region in plan.regions.values())):
        entries = 0
        for found in tensors_in(inputs):
            entries += prod(found.shape)
        if entries > LARGEST_INPUT:
            raise ValueError(f"its inputs have more than {LARGEST_INPUT:,} numbers")


def _check_operators(plan: Plan, path: Path, trust: bool) -> None:
    """Programs may call operators that torch and torchvision do not have only where the file is trusted."""
    steps = [placed.program.nodes for placed in every_program(plan)]
    steps += [skip.instead for placed in every_program(plan) for _, skip in placed.skips]
    called = dict.fromkeys(n.target for nodes in steps for n in nodes if n.op == "call")
    others = [name for name in called if not is_listed(name)]
    if others and not trust:
        raise ArchiveError(
            f"{path}: its program calls {text(others[0])[:80]!r}, an operator of neither torch nor torchvision; if you "
            "trust the file, load it with trust=True, or --trust."
        )


_CONSTANT = re.compile(rf"(.+\.)?{LIFTED}\.c[0-9]{{1,6}}", re.ASCII | re.DOTALL)
"""How programs call what they bring along."""


def _check_tensors(document: s.Document, tensors: Mapping[str, Tensor]) -> None:
    """Every tensor of the file is named, and for one purpose."""
    extra = [] if document.python is None else [document.python.tensor]
    named = [*named_tensors(document.modules), *document.constants, *extra]
    if len(set(named)) < len(named) or set(named) != tensors.keys():
        other = next(iter(set(named) ^ tensors.keys()), "")
        raise ValueError(f"the tensors that it names are not those that it holds ({other!r})")
    if not all(map(_CONSTANT.fullmatch, document.constants)):
        raise ValueError("a constant of its program is none")


# ------------------------------------------------------------------------------------------------- the proof


def _proof_data(proof: Proof) -> s.ProofData:
    cases = [s.CaseData(c.name, float_data(c.max_rel_diff), float_data(c.effect), c.passed) for c in proof.cases]
    return s.ProofData(cases, list(map(text, proof.failures)), list(proof.idle), proof.quick)


def _proof_from(data: s.ProofData) -> Proof:
    cases = (Case(c.name, value_from(c.max_rel_diff), value_from(c.effect), c.passed) for c in data.cases)
    return Proof(tuple(cases), tuple(data.failures), tuple(data.idle), data.quick)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].removesuffix(".")
