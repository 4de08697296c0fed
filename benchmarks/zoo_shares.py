"""How much of a network is elastic: output channels of convolutions and linear layers, and why the others are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from netslim.ir.plan import Frozen, Plan, Slot
from netslim.layouts.axes import Concat, Elastic, Layout, Product, leaves

OUTPUT = "model output"
PROOF = "frozen by the proof"
_WEIGHTS = (
    "weight",
    "parametrizations.weight.original",
    "parametrizations.weight.original1",
    "weight_v",
    "weight_orig",
)

Convolution = nn.modules.conv._ConvNd
Transposed = nn.modules.conv._ConvTransposeNd


@dataclass(frozen=True, slots=True)
class Why:
    """A reason for staying at full width, and the output channels of layers that it holds."""

    reason: str
    op: str
    where: str
    channels: int


@dataclass(frozen=True, slots=True)
class Shares:
    """Output channels of all convolution and linear layers; those of the model's own outputs are not counted."""

    outputs: int
    elastic: float
    model_outputs: float
    reasons: tuple[Why, ...]

    @property
    def share(self) -> float | None:
        return self.elastic / self.outputs if self.outputs else None

    def to_data(self) -> dict[str, Any]:
        return {
            "outputs": self.outputs,
            "elastic_outputs": self.elastic,
            "elastic_share": self.share,
            "model_outputs": self.model_outputs,
            "frozen": [asdict(why) for why in self.reasons],
        }


def shares(plan: Plan, model: nn.Module) -> Shares:
    """Counts every weight once. Layers of which nothing is elastic have their reason in `plan.frozen`."""
    frozen = {slot: found for found in plan.frozen for slot in found.slots}
    elastic = total = 0.0
    held: dict[tuple[str, str, str], float] = defaultdict(float)
    for layer in layers(model):
        free = layer.size * max(
            (elastic_channels(x) / max(1, x.size) for x in _layouts(plan, layer.slots)), default=0.0
        )
        total += layer.size
        elastic += free
        if free < layer.size:
            held[_why(plan, frozen, layer.slots, partly=free > 0)] += layer.size - free
    outputs = sum(count for (text, _, _), count in held.items() if text == OUTPUT)
    reasons = [Why(*key, round(count)) for key, count in _largest_first(held) if key[0] != OUTPUT]
    return Shares(round(total - outputs), elastic, outputs, tuple(reasons))


def _largest_first(held: Mapping[tuple[str, str, str], float]) -> list[tuple[tuple[str, str, str], float]]:
    return sorted(held.items(), key=lambda item: (-item[1], item[0]))


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or linear layer: the places that hold its output channels, and how many there are."""

    path: str
    slots: tuple[Slot, ...]
    size: int


def layers(model: nn.Module) -> Iterator[Layer]:
    """Every layer with a weight of its own; a weight that several share is counted once."""
    seen: set[int] = set()
    names = dict(model.named_parameters(remove_duplicate=False))
    for path, module in model.named_modules():
        if not isinstance(module, (Convolution, nn.Linear)):
            continue
        base = f"{path}." if path else ""
        name = next((base + n for n in _WEIGHTS if base + n in names), "")
        if id(names.get(name)) in seen or not name:
            continue
        seen.add(id(names[name]))
        if isinstance(module, Transposed):
            dims = (Slot(name, 1), Slot(name, 0)) if module.groups > 1 else (Slot(name, 1),)
            yield Layer(path, dims, module.out_channels)
        else:
            yield Layer(path, (Slot(name, 0),), names[name].shape[0])


def output_layers(plan: Plan, model: nn.Module) -> set[str]:
    """Paths of the layers whose output channels are the model's own."""
    held = {slot for found in plan.frozen if found.reason == OUTPUT for slot in found.slots}
    return {layer.path for layer in layers(model) if held & set(layer.slots)}


def elastic_channels(layout: Layout) -> float:
    """How many channels of a solved layout belong to something elastic."""
    if isinstance(layout, Elastic):
        return layout.size
    if isinstance(layout, Concat):
        return sum(map(elastic_channels, layout.parts))
    if isinstance(layout, Product):
        fixed = 1.0
        for factor in layout.factors:
            fixed *= 1.0 - elastic_channels(factor) / factor.size
        return layout.size * (1.0 - fixed)
    return 0.0


def _layouts(plan: Plan, slots: tuple[Slot, ...]) -> list[Layout]:
    return [plan.layouts[s.param][s.dim] for s in slots if s.param in plan.layouts]


def _why(plan: Plan, frozen: Mapping[Slot, Frozen], slots: tuple[Slot, ...], partly: bool) -> tuple[str, str, str]:
    found = next((frozen[s] for s in slots if s in frozen), None)
    if found is not None and not partly:
        return found.reason, found.op, found.where
    for layout in _layouts(plan, slots):
        for leaf in leaves(layout):
            reason = getattr(leaf, "reason", None)
            if reason is not None:
                return reason.text, reason.op, reason.where
    return "a single channel" if all(x.size == 1 for x in _layouts(plan, slots)) else "no reason given", "", ""


def frozen_by_proof(plan: Plan) -> list[Frozen]:
    """The groups that the proof took away."""
    return [found for found in plan.frozen if PROOF in found.reason]
