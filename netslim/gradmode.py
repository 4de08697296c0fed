"""Noting where a model turns gradients off while it runs in inference mode, where nothing would show it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch


class Noting(Protocol):
    """Who is told: `grad` says whether gradients would flow."""

    grad: bool


@contextlib.contextmanager
def noted(by: Noting) -> Iterator[None]:
    """While open, `torch.no_grad`, `enable_grad` and `set_grad_enabled` set `by.grad` and nothing else."""

    def enter(value: bool) -> Any:
        def run(self: Any) -> None:
            self.prev, by.grad = by.grad, value

        return run

    def leave(self: Any, *_: Any) -> None:
        by.grad = self.prev

    def init(self: Any, mode: bool) -> None:
        self.prev, self.mode = by.grad, mode
        by.grad = mode

    with contextlib.ExitStack() as stack:
        for kind, value in ((torch.no_grad, False), (torch.enable_grad, True)):
            _patch(stack, kind, "__enter__", enter(value))
            _patch(stack, kind, "__exit__", leave)
        _patch(stack, torch.set_grad_enabled, "__init__", init)
        _patch(stack, torch.set_grad_enabled, "__enter__", lambda self: setattr(by, "grad", self.mode))
        _patch(stack, torch.set_grad_enabled, "__exit__", leave)
        yield


def _patch(stack: contextlib.ExitStack, kind: type, name: str, method: Any) -> None:
    stack.callback(setattr, kind, name, getattr(kind, name))
    setattr(kind, name, method)
