"""Literals of programs, arguments and settings: what a file may hold of them, and the way there and back.

Lists are written as JSON arrays that begin with a word for their kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta, Struct

from netslim.ir import program
from netslim.ir.inputs import Input, Inputs
from netslim.ir.program import Mode, Ref, Size

LARGEST = (1 << 63) - 1
MANY = 200_000
DEEPEST = 40
"""Containers within containers."""

Text = Annotated[str, Meta(max_length=4096)]
Name = Annotated[str, Meta(min_length=1, max_length=1024)]
Natural = Annotated[int, Meta(ge=0, le=LARGEST)]
Whole = Annotated[int, Meta(ge=-LARGEST - 1, le=LARGEST)]
Number = Annotated[float, Meta(ge=-1e308, le=1e308)]


class Part(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A JSON array."""


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON object."""


class RefData(Part, frozen=True, tag="ref"):
    name: Name


class SizeData(Part, frozen=True, tag="size"):
    index: Natural


class ModeData(Part, frozen=True, tag="mode"):
    negated: bool


class EllipsisData(Part, frozen=True, tag="ellipsis"): ...


class TupleData(Part, frozen=True, tag="tuple"):
    items: Annotated[list[Value], Meta(max_length=MANY)]


class ListData(Part, frozen=True, tag="list"):
    items: Annotated[list[Value], Meta(max_length=MANY)]


class DictData(Part, frozen=True, tag="dict"):
    """Pairs, since keys may be numbers."""

    items: Annotated[list[tuple[Text | Whole, Value]], Meta(max_length=MANY)]


class SliceData(Part, frozen=True, tag="slice"):
    start: Value
    stop: Value
    step: Value


class StructData(Part, frozen=True, tag="struct"):
    kind: Name
    keys: Annotated[list[Text | Whole], Meta(max_length=4096)]
    values: Annotated[list[Value], Meta(max_length=4096)]
    module: Annotated[str, Meta(max_length=1024)] = ""
    base: Annotated[str, Meta(max_length=16)] = "namedtuple"
    names: Annotated[list[Text], Meta(max_length=4096)] = []


class FloatData(Part, frozen=True, tag="float"):
    """A float that JSON has no number for."""

    text: Literal["nan", "inf", "-inf"]


class ComplexData(Part, frozen=True, tag="complex"):
    real: Number
    imag: Number


class DtypeData(Part, frozen=True, tag="dtype"):
    name: Name


class DeviceData(Part, frozen=True, tag="device"):
    name: Name


class FormatData(Part, frozen=True, tag="format"):
    """A memory format or layout of torch."""

    name: Name


class InputData(Part, frozen=True, tag="input"):
    shape: Annotated[list[Natural], Meta(max_length=16)]
    dtype: Name
    high: Whole
    low: Whole
    order: Annotated[int, Meta(ge=-1, le=1)]


Value = (
    bool | Whole | Number | Text | RefData | SizeData | ModeData | EllipsisData | TupleData | ListData
    | DictData | SliceData | StructData | FloatData | ComplexData | DtypeData | DeviceData | FormatData | InputData
    | None
)  # fmt: skip


# ------------------------------------------------------------------------------------------- there and back


def value_data(value: object) -> Value:
    """A literal as data. Raises ValueError for what a file cannot hold."""
    if value is None or isinstance(value, (bool, str)):
        return value
    for kind, make in _WRITTEN:
        if isinstance(value, kind):
            return make(value)
    if value is Ellipsis:
        return EllipsisData()
    raise ValueError(f"a {type(value).__name__} is no literal that a file can hold")


def dict_data(value: Mapping[str, object]) -> DictData:
    """The same for a mapping."""
    return DictData([(key, value_data(item)) for key, item in value.items()])


def float_data(value: float) -> float | FloatData:
    """The same for a number."""
    return float(value) if math.isfinite(value) else FloatData(str(float(value)))  # type: ignore[arg-type]


_WRITTEN: tuple[tuple[type | tuple[type, ...], Callable[[Any], Value]], ...] = (
    (int, int),
    (float, float_data),
    (complex, lambda v: ComplexData(v.real, v.imag)),
    (Ref, lambda v: RefData(v.name)),
    (Size, lambda v: SizeData(v.index)),
    (Mode, lambda v: ModeData(v.negated)),
    (program.Struct, lambda v: _struct_data(v)),
    (Input, lambda v: InputData(list(v.shape), str(v.dtype).removeprefix("torch."), v.high, v.low, v.order)),
    (tuple, lambda v: TupleData(list(map(value_data, v)))),
    (list, lambda v: ListData(list(map(value_data, v)))),
    (Mapping, dict_data),
    (slice, lambda v: SliceData(*map(value_data, (v.start, v.stop, v.step)))),
    (torch.dtype, lambda v: DtypeData(str(v).removeprefix("torch."))),
    (torch.device, lambda v: DeviceData(str(v))),
    ((torch.memory_format, torch.layout), lambda v: FormatData(str(v).removeprefix("torch."))),
)


def _struct_data(value: program.Struct) -> StructData:
    values = list(map(value_data, value.values))
    return StructData(value.kind, list(value.keys), values, value.module, value.base, list(value.names))


def value_from(data: Value, depth: int = 0) -> Any:
    """The literal. Raises ValueError where it is too deep, or names what torch does not have."""
    if depth > DEEPEST:
        raise ValueError("a value is nested too deeply")
    if isinstance(data, (TupleData, ListData)):
        items = [value_from(item, depth + 1) for item in data.items]
        return items if isinstance(data, ListData) else tuple(items)
    if isinstance(data, DictData):
        return {key: value_from(item, depth + 1) for key, item in data.items}
    if isinstance(data, SliceData):
        return slice(*(value_from(item, depth + 1) for item in (data.start, data.stop, data.step)))
    if isinstance(data, StructData):
        values = tuple(value_from(item, depth + 1) for item in data.values)
        return program.Struct(data.kind, tuple(data.keys), values, data.module, data.base, tuple(data.names))
    make = _READ.get(type(data))
    return data if make is None else make(data)


def inputs_from(data: DictData) -> Inputs:
    """Arguments of a forward. Raises ValueError where one has no name, and what :func:`value_from` raises."""
    found: dict[str, object] = value_from(data)
    if not all(isinstance(name, str) for name in found):
        raise ValueError("an argument's name is no text")
    return found


def inputs_text(inputs: Inputs) -> str:
    """Arguments of a forward as a document of JSON. Raises ValueError for a literal that a file cannot hold."""
    return msgspec.json.encode(dict_data(inputs)).decode()


def inputs_read(text: str) -> Inputs:
    """What :func:`inputs_text` wrote; ValueError for anything else."""
    return inputs_from(msgspec.json.decode(text, type=DictData))


def _dtype_named(name: str) -> torch.dtype | None:
    """The dtype of a name such as "float32"."""
    found = getattr(torch, name, None) if name.isascii() and name.isidentifier() else None
    return found if isinstance(found, torch.dtype) else None


def _dtype(data: DtypeData | InputData) -> torch.dtype:
    found = _dtype_named(data.name if isinstance(data, DtypeData) else data.dtype)
    if found is None:
        raise ValueError(f"{data} names no dtype")
    return found


def _device(data: DeviceData) -> torch.device:
    try:
        return torch.device(data.name)
    except RuntimeError as error:
        raise ValueError(f"{data.name!r} is no device") from error


def _format(data: FormatData) -> torch.memory_format | torch.layout:
    found = getattr(torch, data.name, None) if data.name.isidentifier() else None
    if not isinstance(found, (torch.memory_format, torch.layout)):
        raise ValueError(f"{data.name!r} is no memory format")
    return found


def _input(data: InputData) -> Input:
    if data.low > data.high:
        raise ValueError("an input's smallest value is above its largest")
    return Input(tuple(data.shape), _dtype(data), data.high, data.low, data.order)


_READ: dict[type, Callable[[Any], program.Leaf | Input]] = {
    RefData: lambda d: Ref(d.name),
    SizeData: lambda d: Size(d.index),
    ModeData: lambda d: Mode(d.negated),
    EllipsisData: lambda _: Ellipsis,
    FloatData: lambda d: float(d.text),
    ComplexData: lambda d: complex(d.real, d.imag),
    DtypeData: _dtype,
    DeviceData: _device,
    FormatData: _format,
    InputData: _input,
}
