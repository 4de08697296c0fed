"""What is switched while a model is followed and run: notes of `no_grad` and `autocast`, attention, random numbers."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch


class Noting(Protocol):
    """Who is told: whether gradients would flow (`grad`), and whether autocast would choose dtypes (`cast`)."""

    grad: bool
    cast: bool


@contextlib.contextmanager
def noted(by: Noting) -> Iterator[None]:
    """While open, `torch.no_grad` and its kin set `by.grad`, `torch.autocast` sets `by.cast`, and nothing else."""

    def enter(value: bool) -> Any:
        def run(self: Any) -> None:
            self.prev, by.grad = by.grad, value

        return run

    def leave(self: Any, *_: Any) -> None:
        by.grad = self.prev

    def init(self: Any, mode: bool) -> None:
        self.prev, self.mode = by.grad, mode
        by.grad = mode

    def cast(self: Any, *args: Any, **kwargs: Any) -> None:
        self._enabled = inspect.signature(autocast).bind(self, *args, **kwargs).arguments.get("enabled", True)

    def cast_enter(self: Any) -> Any:
        self.prev, by.cast = by.cast, self._enabled
        return self

    def cast_leave(self: Any, *_: Any) -> None:
        by.cast = self.prev

    autocast = torch.autocast.__init__
    with contextlib.ExitStack() as stack:
        for kind, value in ((torch.no_grad, False), (torch.enable_grad, True)):
            _patch(stack, kind, "__enter__", enter(value))
            _patch(stack, kind, "__exit__", leave)
        _patch(stack, torch.set_grad_enabled, "__init__", init)
        _patch(stack, torch.set_grad_enabled, "__enter__", lambda self: setattr(by, "grad", self.mode))
        _patch(stack, torch.set_grad_enabled, "__exit__", leave)
        _patch(stack, torch.autocast, "__init__", cast)  # which refuses meta tensors' device
        _patch(stack, torch.autocast, "__enter__", cast_enter)
        _patch(stack, torch.autocast, "__exit__", cast_leave)
        yield


def _patch(stack: contextlib.ExitStack, kind: type, name: str, method: Any) -> None:
    stack.callback(setattr, kind, name, getattr(kind, name))
    setattr(kind, name, method)


@contextlib.contextmanager
def attention_in_python() -> Iterator[None]:
    """Multi-head attention is one overridable function with weights among its arguments; its body is recorded instead.

    While open, the body does not hand itself back to the function mode that called it.
    """
    functional: Any = torch.nn.functional
    before = functional.has_torch_function
    functional.has_torch_function = lambda *_: False
    try:
        yield
    finally:
        functional.has_torch_function = before


@contextlib.contextmanager
def random_numbers_kept() -> Iterator[None]:
    """The global random generators of Python, numpy and torch go on as if nothing had been drawn inside."""
    python, legacy, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cudas = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(torchs)
        if cudas:
            torch.cuda.set_rng_state_all(cudas)
