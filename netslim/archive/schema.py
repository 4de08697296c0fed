"""What the document of a converted file may hold. Decoding it makes these values and nothing else.

Limits are far above what real networks have
(the largest of some three hundred has 20,000 steps); they bound the memory and time that a file can take.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from netslim.archive.literals import DictData, FloatData, Name, Natural, Number, Part, Record, Text, Value, Whole

STEPS = 50_000
"""Steps of all programs together."""

MODULES = 100_000
LAYOUTS = 200_000
# ------------------------------------------------------------------------------------------------- the plan


class ReasonData(Part, frozen=True):
    text: Text
    op: Text
    where: Text


class ConstData(Part, frozen=True, tag="const"):
    size: Natural
    reason: ReasonData | None


class GroupRef(Part, frozen=True, tag="group"):
    group: Natural
    size: Natural


class ProductData(Part, frozen=True, tag="product"):
    factors: Annotated[list[LayoutData], Meta(min_length=2, max_length=64)]


class ConcatData(Part, frozen=True, tag="concat"):
    parts: Annotated[list[LayoutData], Meta(min_length=2, max_length=LAYOUTS)]


LayoutData = ConstData | GroupRef | ProductData | ConcatData

Which = Annotated[int, Meta(ge=0, lt=LAYOUTS)]
"""A layout, by its place in the plan's list."""


class SlotData(Part, frozen=True):
    param: Name
    dim: Annotated[int, Meta(ge=0, lt=64)]


class GroupData(Part, frozen=True):
    name: Name
    size: Natural
    slots: Annotated[list[SlotData], Meta(max_length=MODULES)]


class FrozenData(Part, frozen=True):
    slots: Annotated[list[SlotData], Meta(max_length=MODULES)]
    size: Natural
    reason: Text
    op: Text
    where: Text


Count = Annotated[int, Meta(ge=0, le=1 << 31)]


TieData = tuple[Count, Count, Count, Count, Count]


class TiesData(Part, frozen=True):
    """What ties places to each other: nodes by number, with their layouts; (whole, part, start, step, cause)."""

    places: Annotated[list[SlotData], Meta(max_length=LAYOUTS)]
    layouts: Annotated[list[Which], Meta(max_length=LAYOUTS)]
    reasons: Annotated[list[ReasonData], Meta(max_length=LAYOUTS)]
    causes: Annotated[list[ReasonData], Meta(max_length=LAYOUTS)]
    ties: Annotated[list[TieData], Meta(max_length=2 * LAYOUTS)]
    roles: Annotated[list[tuple[Count, Literal["head", "group"]]], Meta(max_length=LAYOUTS)]


class NodeData(Part, frozen=True):
    name: Name
    op: Literal["input", "param", "module", "call", "output"]
    target: Text
    args: Annotated[list[Value], Meta(max_length=LAYOUTS)]
    kwargs: Annotated[dict[Name, Value], Meta(max_length=256)]
    where: Text
    grad: bool
    cast: bool
    again: Natural = 0


Steps = Annotated[list[NodeData], Meta(max_length=STEPS)]


class LeftData(Part, frozen=True):
    """An argument that the example left out."""

    name: Text
    place: Annotated[int, Meta(ge=0, le=4096)]
    value: bool | Whole | Number | Text | FloatData | None


class RegionData(Part, frozen=True):
    """Programs: that of training, and that of evaluation where it is another."""

    path: Text
    inputs: DictData
    programs: Annotated[list[Steps], Meta(min_length=1, max_length=2)]
    left: Annotated[list[LeftData], Meta(max_length=256)] = msgspec.field(default_factory=list)


class EndData(Part, frozen=True):
    end: Name
    body: Annotated[list[Name], Meta(max_length=STEPS)]
    instead: Annotated[list[NodeData], Meta(max_length=16)]
    value: Name
    bodies: Annotated[list[Name], Meta(max_length=STEPS)]


class SkipData(EndData, frozen=True):
    more: Annotated[list[EndData], Meta(max_length=16)]


class BlockData(Part, frozen=True):
    name: Name
    params: Natural
    where: Text
    region: Text
    skips: Annotated[list[SkipData], Meta(min_length=1, max_length=2)]
    stage: Natural


class RefusedData(Part, frozen=True):
    where: Text
    reason: Text


class PlanData(Record, frozen=True):
    groups: Annotated[list[GroupData], Meta(max_length=MODULES)]
    frozen: Annotated[list[FrozenData], Meta(max_length=MODULES)]
    distinct: Annotated[list[LayoutData], Meta(max_length=LAYOUTS)]
    layouts: Annotated[dict[Name, list[Which]], Meta(max_length=LAYOUTS)]
    regions: Annotated[list[RegionData], Meta(max_length=MODULES)]
    sizes: Annotated[list[tuple[Which, Natural]], Meta(max_length=LAYOUTS)]
    cuts: Annotated[list[Name], Meta(max_length=LAYOUTS)]
    ints: Annotated[dict[Name, dict[Name, Which]], Meta(max_length=MODULES)]
    inputs: DictData
    refusal: Text
    blocks: Annotated[list[BlockData], Meta(max_length=MODULES)]
    refused: Annotated[list[RefusedData], Meta(max_length=MODULES)]
    specialised: Annotated[list[Text], Meta(max_length=MODULES)]
    unknown: Annotated[dict[Text, Natural], Meta(max_length=MODULES)]
    model: Text
    ties: TiesData | None = None


# ------------------------------------------------------------------------------------- modules, proof, the whole


class ParameterData(Part, frozen=True):
    """tensor: its name in the file, which others may share; None where the layer has none."""

    name: Name
    tensor: Name | None
    trainable: bool


class BufferData(Part, frozen=True):
    name: Name
    tensor: Name | None
    persistent: bool


class ModuleData(Part, frozen=True):
    """kind: a container of netslim's, a class of torch's, one of the model's own, the module at another path, or none.

    of: the name to show, the class, or the other path.
    """

    path: Text
    kind: Literal["tree", "torch", "python", "same", "none"]
    of: Text
    training: bool
    attributes: Annotated[dict[Name, Value], Meta(max_length=256)]
    parameters: Annotated[list[ParameterData], Meta(max_length=MODULES)]
    buffers: Annotated[list[BufferData], Meta(max_length=MODULES)]


class CaseData(Part, frozen=True):
    name: Text
    max_rel_diff: Number | FloatData
    effect: Number | FloatData
    passed: bool


class ProofData(Part, frozen=True):
    cases: Annotated[list[CaseData], Meta(max_length=4096)]
    failures: Annotated[list[Text], Meta(max_length=4096)]
    idle: Annotated[list[Name], Meta(max_length=MODULES)]
    quick: bool = False


class PythonData(Part, frozen=True):
    """The model's own classes, and the tensor (of bytes) that holds what was pickled of them."""

    classes: Annotated[list[Text], Meta(max_length=MODULES)]
    tensor: Name


class Document(Record, frozen=True):
    """constants: tensors that programs read and no module of the model holds. rules: operators with a person's rule."""

    plan: PlanData
    modules: Annotated[list[ModuleData], Meta(min_length=1, max_length=MODULES)]
    constants: Annotated[list[Name], Meta(max_length=MODULES)]
    proof: ProofData | None
    python: PythonData | None
    rules: Annotated[list[Name], Meta(max_length=4096)]
    torch: Text


def encode(document: Document) -> bytes:
    return msgspec.json.encode(document)


T = TypeVar("T")


def decode(data: bytes, kind: type[T]) -> T:
    """A document of this kind; ValueError, in a clause, for anything else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error).splitlines()[0][:200]) from error
