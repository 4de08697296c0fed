"""What netslim makes of one model: analysis, conversion with its proof, costs, a training step beside the model's."""

from __future__ import annotations

import copy
import math
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import thirdparty
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only
from zoo_limits import Fields, Job, Send, told
from zoo_models import THIRDPARTY, Entry, home
from zoo_parity import parity_fields
from zoo_shares import frozen_by_proof, shares

import netslim
from netslim.cost import elastic_share
from netslim.errors import InputError
from netslim.proof.equivalence import draw_counts
from netslim.source.shapes import BATCH, DEFAULT, Shapes, example_inputs, shown
from netslim.source.spec import load_source

WIDTH = 0.5


def netslim_job(entry: Entry, reduced: bool, analysis_only: bool = False) -> Job:
    """The measurement of one model, for a process of its own."""

    def job(send: Send) -> None:
        model, inputs = prepared(entry, reduced, send)
        send({"stage": "analysis"})
        start = time.process_time()
        plan = netslim.analyse(model, inputs)[0]
        send({"analysed": True, "analysis_s": time.process_time() - start, "groups": len(plan.groups)})
        send(shares(plan, model).to_data() | {"stage": "" if analysis_only else "convert and prove"})
        if analysis_only:
            return
        start = time.process_time()
        net = netslim.convert(model, inputs, prove=True)
        send({"converted": True, "convert_s": time.process_time() - start} | proof_fields(net))
        send(shares(net.plan, model).to_data() | {"stage": "costs"})
        send(costs(net))
        batch, named = call(entry, inputs)
        send({"stage": "parity"})
        send(compared(entry, model, net, inputs))
        send({"stage": "training step"})
        send(training_fields(model, net, batch, named))
        send({"stage": ""})

    return job


def prepared(entry: Entry, reduced: bool, send: Send) -> tuple[nn.Module, Any]:
    """The model with seeded weights, and a batch for it; the same ones for every tool."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    send({"stage": "build"})
    start = time.process_time()
    if entry.source.startswith(f"{THIRDPARTY}:"):
        model, inputs = thirdparty.built(entry.source.partition(":")[2])
        send(build_fields(model, described(inputs), start))
        return model, inputs
    loaded = load_source(entry.source)
    shapes = loaded.shapes or DEFAULT
    if reduced:
        shapes = smaller(loaded.model, shapes)
    send(build_fields(loaded.model, f"{BATCH} of {shown(shapes)}", start))
    return loaded.model, example_inputs(shapes)


def compared(entry: Entry, model: nn.Module, net: nn.Module, inputs: Any) -> Fields:
    """A training step of both, on images of half the size unless the converted network refuses these."""
    fields = parity_fields(model, net, *call(entry, halved(entry, model, inputs)))
    if not fields.get("parity_note", "").startswith("InputError"):
        return fields
    return parity_fields(model, net, *call(entry, inputs))


def halved(entry: Entry, model: nn.Module, inputs: Any) -> Any:
    """The batch at half its height and width, where the model takes that in both modes; else as it is."""
    small = tree_map_only(
        Tensor, lambda t: t[..., : t.shape[-2] // 2, : t.shape[-1] // 2] if t.dim() > 2 else t, inputs
    )
    batch, named = call(entry, small)
    try:
        with torch.no_grad():
            for training in (True, False):
                copy.deepcopy(model).train(training)(*batch, **named)
    except Exception:
        return inputs
    return small


def build_fields(model: nn.Module, inputs: str, start: float) -> Fields:
    params = sum(p.numel() for p in model.parameters())
    return {"params": params, "input": inputs, "build_s": time.process_time() - start}


def described(inputs: Any) -> str:
    """Shapes with the batch."""
    return " and ".join(",".join(map(str, tensor.shape)) for tensor in tree_leaves(inputs))


def smaller(model: nn.Module, shapes: Shapes) -> Shapes:
    """The last two dimensions halved, where forward still runs with that; else the shapes as they are."""
    halved = tuple((*shape[:-2], shape[-2] // 2, shape[-1] // 2) for shape in shapes)
    inputs = example_inputs(halved)
    try:
        with torch.no_grad():
            for training in (False, True):
                model.train(training)(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    except Exception:
        return shapes
    return halved


def costs(net: Any) -> Fields:
    """Shares at half width; FLOPs only where the network runs without values."""
    params = sum(p.numel() for p in net.parameters())
    shapes = net.kept_shapes(WIDTH)
    kept = sum(math.prod(shapes.get(name, p.shape)) for name, p in net.named_parameters())
    found: Fields = {"params_kept": kept / max(1, params)}
    try:
        cost = elastic_share(net, WIDTH)
    except Exception as error:
        return found | {"cost_note": told(error)["failure"]}
    return found | {"flops_kept": cost.flops_share, "flops": cost.flops_full}


def proof_fields(net: Any) -> Fields:
    proof, removed = net.proof, frozen_by_proof(net.plan)
    return {
        "proved": proof is not None and proof.passed and (bool(proof.cases) or not removed),
        "groups": len(net.groups),
        "blocks": len(net.blocks),
        "proof_frozen": len(removed),
        "proof_frozen_groups": [frozen.slots[0].param for frozen in removed],
        "proof_difference": max((case.max_rel_diff for case in proof.cases), default=0.0) if proof else None,
        "idle": len(proof.idle) if proof else 0,
        "specialised": list(net.plan.specialised),
        "unknown_ops": dict(net.plan.unknown),
    }


# ------------------------------------------------------------------------------------------------ one training step


def call(entry: Entry, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What forward gets in training mode: by position, and by name."""
    if isinstance(inputs, dict):
        return (), inputs
    return (*positional(inputs), *targets(entry, inputs)), {}


def training_fields(model: nn.Module, net: Any, batch: tuple[Any, ...], named: dict[str, Any]) -> Fields:
    """Whether a step at random widths runs: forward, mean of the float outputs, backward, SGD on every weight."""
    counts = draw_counts(net.groups, random.Random(0))
    width = {group.name: count for group, count in zip(net.groups, counts, strict=True)}

    def run() -> Any:
        with net.sub(width or 1.0):
            return net(*batch, **named)

    try:
        note = step(net, run)
    except InputError as error:
        return {"trained": None, "training_note": told(error)["failure"]}
    except Exception as error:
        theirs = original_failure(model, lambda: model(*batch, **named))
        return {"trained": None if theirs else False, "training_note": theirs or told(error)["failure"]}
    return {"trained": not note, "training_note": note}


def step(net: nn.Module, run: Callable[[], Any]) -> str:
    """One SGD step; what is wrong with it, or an empty string."""
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)
    outputs = [t for t in tree_leaves(run()) if isinstance(t, Tensor) and t.is_floating_point() and t.requires_grad]
    if not outputs:
        return "no output has a gradient"
    torch.stack([t.mean() for t in outputs]).sum().backward()
    if not any(p.grad is not None for p in net.parameters()):
        return "no parameter has a gradient"
    optimizer.step()
    return ""


def original_failure(model: nn.Module, run: Callable[[], Any]) -> str:
    """Why the model itself cannot do a training step on these inputs, or an empty string."""
    try:
        note = step(model, run)
    except Exception as error:
        note = told(error)["failure"]
    return f"nor does the original: {note}" if note else ""


def positional(inputs: Any) -> tuple[Any, ...]:
    return inputs if isinstance(inputs, tuple) else (inputs,)


def targets(entry: Entry, inputs: Any) -> tuple[Any, ...]:
    """What torchvision's detection models want beside the images in training mode: one object in every image."""
    if ".detection." not in home(entry):
        return ()
    return ([_one_object(image) for image in positional(inputs)[0]],)


def _one_object(image: Tensor) -> dict[str, Tensor]:
    height, width = image.shape[-2:]
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    mask[:, height // 4 : height // 2, width // 4 : width // 2] = 1
    corners = torch.tensor([[width / 4, height / 4, width / 2, height / 2]])
    points = torch.tensor([width / 3, height / 3, 1.0]).expand(1, 17, 3).clone()
    return {"boxes": corners, "labels": torch.ones(1, dtype=torch.long), "masks": mask, "keypoints": points}
