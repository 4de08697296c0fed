"""What a person may ask about by name: parameters, their dimensions, modules and groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netslim.errors import SubnetError, did_you_mean
from netslim.ir.answers import Why
from netslim.ir.ties import Slot
from netslim.ir.why import between, why
from netslim.net.runtime import named_tensors, runtime

if TYPE_CHECKING:
    from netslim.net.slimnet import SlimNet


def asked(net: SlimNet, name: str, other: str | None) -> Why:
    """The answer to `net.why`. Raises SubnetError for a name that fits nothing."""
    plan = runtime(net).plan
    slots = _slots(net, name)
    if other is not None:
        return between(plan, (name, other), slots, _slots(net, other))
    group = plan.group(name)
    return why(plan, name, slots, group.name if group is not None and tuple(slots) == group.slots[:1] else None)


def _slots(net: SlimNet, name: str) -> list[Slot]:
    """The dimensions that a name stands for: of a parameter, of all below a module, or the first of a group."""
    tensors = named_tensors(net)
    below = [key for key in tensors if key == name or key.startswith(f"{name}.")]
    if below:
        first = {id(tensor): key for key, tensor in reversed(tensors.items())}
        keys = dict.fromkeys(first[id(tensors[key])] for key in below)
        return [Slot(key, dim) for key in keys for dim in range(tensors[key].dim())]
    base, _, dim = name.rpartition(".")
    if base in tensors and dim.isdecimal() and int(dim) < tensors[base].dim():
        return [Slot(base, int(dim))]
    plan = runtime(net).plan
    group = plan.group(name)
    if group is not None:
        return [group.slots[0]]
    known = dict.fromkeys([*tensors, *(key.rpartition(".")[0] for key in tensors), *(g.name for g in plan.groups)])
    raise SubnetError(f"this network has no parameter, module or group {name!r}{did_you_mean(name, known)}")
