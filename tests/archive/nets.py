"""Networks whose files the tests of this folder edit, and the editing: the document as JSON, signed anew."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import netslim
from netslim.archive import container

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Json = dict[str, Any]


class Net(nn.Module):
    """A stem, a residual block, a shuffle between grouped layers, two branches, a head; one more in training."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1, groups=2)
        self.drop, self.head, self.more = nn.Dropout(0.1), nn.Linear(12, 5), nn.Linear(8, 5)
        self.register_buffer("shift", torch.linspace(0, 1, 8).view(8, 1, 1))

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.norm(self.stem(x))) + self.shift
        x = x + self.body(x)
        n, c, h, w = x.shape
        mixed = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        both = torch.cat([self.left(x), self.right(mixed)], 1)
        logits = self.head(self.drop(both.mean((2, 3))))
        return {"logits": logits, "more": self.more(x.mean((2, 3)))} if self.training else {"logits": logits}


@functools.cache
def good() -> Path:
    """A file as netslim writes it."""
    path = Path(tempfile.mkdtemp()) / "converted.pt"
    torch.manual_seed(0)
    netslim.save(netslim.convert(Net(), IMAGES), path)
    return path


def opened(path: Path) -> tuple[Json, dict[str, Tensor]]:
    """A file's document and tensors."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["document"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def signed(path: Path, document: Json, tensors: dict[str, Tensor], version: int = 3, kind: str = "netslim") -> Path:
    """A file of this content whose sums are right, as somebody would write it who knows the form."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "DOCUMENT_BYTES", 1 << 40)
        container.write(path, kind, version, text, tensors)
    return path


def edited(folder: Path, edit: Callable[..., Any], *more: Any) -> Path:
    """A copy of the good file with its document edited in place: `edit(document, tensors)`, or `edit(document)`."""
    document, tensors = opened(good())
    edit(document, tensors) if edit.__code__.co_argcount - len(more) > 1 else edit(document, *more)
    return signed(folder / "converted.pt", document, tensors)


def program(document: Json) -> list[Any]:
    """The steps of the program of training: [name, kind, target, args, kwargs, ...]."""
    return document["plan"]["regions"][0][2][0]


def instead(document: Json) -> list[Any]:
    """The steps that run where the first block is skipped in training."""
    return document["plan"]["blocks"][0][4][0][2]


def entry(document: Json, path: str) -> list[Any]:
    """A module: [path, kind, class, training, settings, parameters, buffers]."""
    return next(found for found in document["modules"] if found[0] == path)


def step(name: str, kind: str, target: str, *args: Any, **kwargs: Any) -> list[Any]:
    return [name, kind, target, list(args), kwargs, "", True, True]


def ref(name: str) -> list[str]:
    return ["ref", name]


def first(document: Json, kind: str) -> list[Any]:
    return next(found for found in program(document) if found[1] == kind)
