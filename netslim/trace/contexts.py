"""What is switched while a model is followed and run: notes of gradients and `autocast`, attention."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
import torch.distributed as dist
import torch.utils.checkpoint
from torch.autograd.function import FunctionMeta

from netslim.versions import CHECKPOINT


class Noting(Protocol):
    """Who is told: whether gradients would flow (`grad`), and whether autocast would choose dtypes (`cast`)."""

    grad: bool
    cast: bool

    def differentiates(self, function: type[torch.autograd.Function]) -> None:
        """A function with a backward of its own is called."""

    def recomputed(self) -> contextlib.AbstractContextManager[None]:
        """What runs inside is not kept for the backward pass, but computed again there."""


class Switch(Protocol):
    """What torch's contexts remember from their beginning to their end: two of grad mode's, and autocast's own."""

    prev: bool
    mode: bool
    _enabled: bool


class Everywhere:
    """A change of torch that is made for the whole process while at least one thread is inside.

    change: makes it, and gives what undoes it.
    """

    def __init__(self, change: Callable[[], Callable[[], object]]) -> None:
        self.change, self.inside, self.lock = change, 0, threading.Lock()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.undo = self.change()
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.undo()


class _Here(threading.local):
    """What holds for one thread: who is told, whether attention is to be recorded as Python, and whether the process
    is one by itself."""

    by: Noting | None = None
    attention = False
    alone = False


_here = _Here()


@contextlib.contextmanager
def _held(change: Everywhere, name: str, value: object) -> Iterator[None]:
    """While open, torch is changed, and the change is for this thread what `value` says."""
    before = getattr(_here, name)
    with change():
        setattr(_here, name, value)
        try:
            yield
        finally:
            setattr(_here, name, before)


@contextlib.contextmanager
def noted(by: Noting) -> Iterator[None]:
    """While open, `torch.no_grad` and its kin set `by.grad`, `torch.autocast` sets `by.cast`, and nothing else.

    `by` is also told of functions with a backward of their own, and of what torch.utils.checkpoint runs.
    For this thread; in any other they do what they always do.
    """
    with _held(_told, "by", by):
        yield


def _patched() -> Callable[[], None]:
    """Let torch's contexts tell the thread's `by`, if it has one."""

    def enter(value: bool) -> Callable[..., object]:
        def run(by: Noting, self: Switch) -> None:
            self.prev, by.grad = by.grad, value

        return run

    def leave(by: Noting, self: Switch, *_: object) -> None:
        by.grad = self.prev

    def init(by: Noting, self: Switch, mode: bool) -> None:
        self.prev, self.mode = by.grad, mode
        by.grad = mode

    def again(by: Noting, self: Switch) -> None:
        by.grad = self.mode

    def cast(_by: Noting, self: Switch, *args: object, **kwargs: object) -> None:
        self._enabled = signature.bind(self, *args, **kwargs).arguments.get("enabled", True)

    def cast_enter(by: Noting, self: Switch) -> Switch:
        self.prev, by.cast = by.cast, self._enabled
        return self

    def cast_leave(by: Noting, self: Switch, *_: object) -> None:
        by.cast = self.prev

    signature = inspect.signature(torch.autocast.__init__)
    stack = contextlib.ExitStack()
    _gradients(stack)
    for kind, value in ((torch.no_grad, False), (torch.enable_grad, True)):
        _patch(stack, kind, "__enter__", enter(value))
        _patch(stack, kind, "__exit__", leave)
    _patch(stack, torch.set_grad_enabled, "__init__", init)
    _patch(stack, torch.set_grad_enabled, "__enter__", again)
    _patch(stack, torch.set_grad_enabled, "__exit__", leave)
    _patch(stack, torch.autocast, "__init__", cast)  # which refuses meta tensors' device
    _patch(stack, torch.autocast, "__enter__", cast_enter)
    _patch(stack, torch.autocast, "__exit__", cast_leave)
    return stack.close


def _gradients(stack: contextlib.ExitStack) -> None:
    """Let what decides or defines a backward pass tell the thread's `by`, by whatever name the model knows it."""
    enabled = torch.is_grad_enabled

    def is_enabled() -> bool:
        return enabled() if _here.by is None else _here.by.grad

    def read(kind: type[torch.autograd.Function], name: str) -> object:
        if name == "_backward_cls" and _here.by is not None:  # which is read by a call, and by nothing else
            _here.by.differentiates(kind)
        return type.__getattribute__(kind, name)

    class Checkpoint:
        @staticmethod
        def apply(run: Callable[..., object], preserve: bool, *args: object) -> object:
            if _here.by is None:
                return original.apply(run, preserve, *args)
            with _here.by.recomputed():
                return run(*args)

    def steps(*args: Any, **kwargs: Any) -> Iterator[None]:
        if _here.by is None:
            yield from around(*args, **kwargs)
        else:
            with _here.by.recomputed():
                yield

    torch.is_grad_enabled = is_enabled
    stack.callback(setattr, torch, "is_grad_enabled", enabled)
    FunctionMeta.__getattribute__ = read  # type: ignore[assignment]
    stack.callback(delattr, FunctionMeta, "__getattribute__")
    module = torch.utils.checkpoint
    original = module.CheckpointFunction
    module.CheckpointFunction = Checkpoint  # type: ignore[assignment, misc]
    stack.callback(setattr, module, "CheckpointFunction", original)
    around = getattr(module, CHECKPOINT)
    setattr(module, CHECKPOINT, steps)
    stack.callback(setattr, module, CHECKPOINT, around)


def _patch(stack: contextlib.ExitStack, kind: type, name: str, method: Callable[..., object]) -> None:
    original = getattr(kind, name)

    @functools.wraps(original)
    def run(self: object, *args: object, **kwargs: object) -> object:
        by = _here.by
        return original(self, *args, **kwargs) if by is None else method(by, self, *args, **kwargs)

    stack.callback(setattr, kind, name, original)
    setattr(kind, name, run)


_told = Everywhere(_patched)


@contextlib.contextmanager
def attention_in_python() -> Iterator[None]:
    """Multi-head attention is one overridable function with weights among its arguments; its body is recorded instead.

    While open, the body does not hand itself back to the function mode that called it, in this thread.
    """
    with _held(_opened, "attention", True):
        yield


def _attention_opened() -> Callable[[], None]:
    functional = vars(torch.nn.functional)
    before = functional["has_torch_function"]
    functional["has_torch_function"] = lambda *args: not _here.attention and before(*args)
    return lambda: functional.update(has_torch_function=before)


_opened = Everywhere(_attention_opened)


def _fast_path_off() -> Callable[[], None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    return lambda: torch.backends.mha.set_fastpath_enabled(before)


fast_path_off = Everywhere(_fast_path_off)
"""While open, transformer layers do not call one fused kernel in eval mode."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Layers of this thread that would ask other processes for their part of a batch do without.

    Nobody else is there while a model is followed, and tensors without values cannot be sent.
    """
    with _held(_parted, "alone", True):
        yield


def _ungrouped() -> Callable[[], None]:
    if not dist.is_available():
        return lambda: None
    before = dist.is_initialized
    setattr(dist, "is_initialized", lambda: not _here.alone and before())  # noqa: B010
    return lambda: setattr(dist, "is_initialized", before)


_parted = Everywhere(_ungrouped)


def _old_objects_aside() -> Callable[[], None]:
    if gc.get_freeze_count():  # somebody has put objects aside, and wants them to stay there
        return lambda: None
    gc.freeze()
    return gc.unfreeze


only_new_garbage = Everywhere(_old_objects_aside)
"""While open, Python looks for garbage among new objects only: torch and a model have hundreds of thousands."""


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """While open, torch is changed for those who follow models inside, so that it is not changed anew for each run."""
    with _told(), _opened(), _parted(), only_new_garbage():
        yield
