"""What a run of a network gives, all that can be told from outside, and in what two such outcomes differ."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from netslim.ir.inputs import every_tensor
from netslim.proof.blame import called, must_be_the_networks
from netslim.trace.contexts import fast_path_off
from netslim.trace.randomness import own_random_numbers

Form = list[tuple[str, object]]
"""What an output is made of: a place in it, and what stands there, but for the entries of tensors."""


@dataclass(frozen=True)
class Call:
    """One run. exact: whether outputs are to be equal bit for bit; said: how it is told of the run."""

    said: str
    training: bool
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] | None = None
    gradients: bool = True
    autocast: bool = False
    exact: bool = False

    @property
    def inputs(self) -> tuple[tuple[object, ...], dict[str, object]]:
        """Positional arguments, and those by name."""
        return self.args, dict(self.kwargs or {})

    def mapped(self, dtype: torch.dtype) -> Call:
        """The same in another precision."""
        args, kwargs = tree_map_only(Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, self.inputs)
        return replace(self, args=args, kwargs=kwargs, exact=False)


@dataclass(frozen=True)
class Outcome:
    """Of one run: the output's form and tensors, gradients of parameters and inputs (None: no backward), buffers."""

    form: Form
    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor | None] | None
    buffers: dict[str, Tensor]


def run(network: nn.Module, call: Call) -> Outcome:
    """The outcome of a call. Raises what forward raises; a backward pass that fails is an outcome without gradients."""
    for parameter in network.parameters():
        parameter.grad = None
    leaves: list[Tensor] = []
    args, kwargs = tree_map_only(Tensor, lambda t: _given(t, call, leaves), call.inputs)
    with own_random_numbers(), fast_path_off(), torch.set_grad_enabled(call.gradients):
        with _cast(call, leaves):
            value = called(network, *args, **kwargs)
        form = list(_form(value, "output"))
        outputs = dict(_tensors(value, "output"))
        kept = {path: leaf.detach().clone() for path, leaf in outputs.items()}
        ran = call.gradients and _backward(list(outputs.values()))
    gradients = _gradients(network, leaves) if ran else None
    return Outcome(form, kept, gradients, {n: b.detach() for n, b in network.named_buffers(remove_duplicate=False)})


def _given(tensor: Tensor, call: Call, leaves: list[Tensor]) -> Tensor:
    """A tensor of the run's own: no leaf, since a network may write into its inputs."""
    leaf = tensor.detach().clone()
    leaves.append(leaf.requires_grad_(call.gradients and leaf.is_floating_point()))
    return leaf.clone()


def _cast(call: Call, leaves: Sequence[Tensor]) -> contextlib.AbstractContextManager[object]:
    device = leaves[0].device.type if leaves else "cpu"
    return torch.autocast(device, torch.bfloat16) if call.autocast else contextlib.nullcontext()


def _backward(outputs: Sequence[Tensor]) -> bool:
    """Whether a backward pass of random gradients of the outputs went through."""
    generator = torch.Generator().manual_seed(3)
    ends = [t for t in outputs if t.requires_grad and t.is_floating_point()]
    grads = [torch.randn(t.shape, generator=generator).to(t) for t in ends]
    try:
        called(torch.autograd.backward, ends, grads)
    except Exception as error:  # the network overwrites what its backward needs: it can run, but not train
        must_be_the_networks(error)
        return False
    return True


def _gradients(network: nn.Module, leaves: Sequence[Tensor]) -> dict[str, Tensor | None]:
    named = {name: p.grad for name, p in network.named_parameters(remove_duplicate=False)}
    for parameter in network.parameters():
        parameter.grad = None
    return named | {f"input {i}": leaf.grad for i, leaf in enumerate(leaves)}


# ------------------------------------------------------------------------------------------------------ the output


def _form(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Tensor):
        yield path, (tuple(value.shape), value.dtype, value.requires_grad)
        return
    children = _children(value, path)
    if children is None:
        yield path, value if isinstance(value, (bool, int, float, complex, str)) else _kind(value)
        return
    yield path, (_kind(value), tuple(children))
    for place, child in children.items():
        yield from _form(child, place)


def _tensors(value: object, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    for place, child in (_children(value, path) or {}).items():
        yield from _tensors(child, place)


def _children(value: object, path: str) -> dict[str, object] | None:
    """What a container or an object of the user's holds, by place; None for anything else."""
    if isinstance(value, Mapping):
        return {f"{path}[{key!r}]": item for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return {f"{path}[{i}]": item for i, item in enumerate(value)}
    if isinstance(value, (type, nn.Module, Tensor)) or next(every_tensor(value), None) is None:
        return None
    return {f"{path}.{name}": item for name, item in vars(value).items()} if hasattr(value, "__dict__") else None


def _kind(value: object) -> object:
    """The class; a namedtuple's name and fields, since a network without Python has a class of its own for them."""
    fields = getattr(value, "_fields", None) if isinstance(value, tuple) else None
    return (type(value).__name__, tuple(fields)) if fields is not None else type(value)


# ------------------------------------------------------------------------------------------------------ differences


@dataclass(frozen=True)
class Tolerance:
    """Largest relative differences that count as none."""

    outputs: float
    gradients: float


SINGLE, DOUBLE, CAST = Tolerance(1e-4, 1e-3), Tolerance(1e-7, 1e-6), Tolerance(5e-2, 2e-1)
_SMALL = 1e-3
"""Below this share of the largest gradient, rounding is all that there is to compare."""


def difference(wanted: Outcome, got: Outcome, tolerance: Tolerance, exact: bool = False) -> str:
    """What differs, in a few words; nothing where the outcomes are the same."""
    for (place, here), (other, there) in zip(wanted.form, got.form, strict=False):
        if (place, here) != (other, there) and not (here != here and there != there):
            return f"the type or shape of the {place}: {_told(there)} instead of {_told(here)}"
    for place, tensor in wanted.outputs.items():
        if not _alike(got.outputs[place], tensor, 0.0 if exact else tolerance.outputs):
            return f"the {place}"
    return _in_gradients(wanted, got, tolerance) or _in_buffers(wanted, got, tolerance)


def _told(form: object) -> str:
    if isinstance(form, tuple):
        return " ".join(map(_told, form))
    return form.__name__ if isinstance(form, type) else str(form)


def _in_gradients(wanted: Outcome, got: Outcome, tolerance: Tolerance) -> str:
    if wanted.gradients is None:
        return ""
    if got.gradients is None:
        return "the backward pass, which fails"
    sizes = [float(g.abs().max()) for g in wanted.gradients.values() if g is not None and g.numel()]
    floor = _SMALL * max(sizes, default=0.0)
    for name, ours in wanted.gradients.items():
        theirs = got.gradients.get(name)
        there, here = _or_zeros(theirs, ours), _or_zeros(ours, theirs)
        if there is not None and here is not None and not _alike(there, here, tolerance.gradients, floor):
            return f"the gradient of {name}"
    return ""


def _or_zeros(gradient: Tensor | None, other: Tensor | None) -> Tensor | None:
    return torch.zeros_like(other) if gradient is None and other is not None else gradient


def _in_buffers(wanted: Outcome, got: Outcome, tolerance: Tolerance) -> str:
    for name, buffer in wanted.buffers.items():
        theirs = got.buffers.get(name, buffer)
        if tolerance is CAST:  # a model that assigns what autocast gave it has a buffer of less precision
            theirs = theirs.to(buffer.dtype)
        is_table = theirs.shape != buffer.shape  # of another size, which forward keeps; a program makes its own
        if not is_table and not _alike(theirs, buffer, tolerance.outputs):
            return f"the buffer {name}"
    return ""


def _alike(got: Tensor, wanted: Tensor, tolerance: float, floor: float = 0.0) -> bool:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    if got.layout != torch.strided or torch.equal(got, wanted):
        return True
    a, b = got.to(torch.complex128), wanted.to(torch.complex128)
    here = torch.isfinite(b)
    if not torch.equal(torch.isfinite(a), here):
        return False
    far = torch.where(here, a - b, 0).abs().max()
    return bool(far <= tolerance * torch.where(here, b, 0).abs().max().clamp_min(floor))
