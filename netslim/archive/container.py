"""One file that holds a JSON document and named tensors: safetensors, with checksums over every byte.

A tensor is its dtype, its shape and its own bytes, so that a file can name neither strides nor shared memory, and
unpacks to nothing larger than itself. The document is the entry "document" of safetensors' metadata; two SHA-256 sums
beside it cover the tensors ("sha256.data") and everything before them ("sha256", worked out with zeros in its place).
"""

from __future__ import annotations

import hashlib
import itertools
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import safetensors
import torch
from safetensors import torch as tensor_files
from torch import Tensor

from netslim.errors import ArchiveError
from netslim.files import atomic_write

DOCUMENT_BYTES = 1 << 25
"""Largest document that is read; one of a network with 700 layers has a million bytes."""

_HEADER_BYTES = 3 * DOCUMENT_BYTES
_SUMS = ("sha256", "sha256.data")
_EMPTY = "0" * 64


@dataclass(frozen=True)
class Content:
    """What a file holds."""

    kind: str
    version: int
    document: bytes
    tensors: dict[str, Tensor]


class Damaged(Exception):
    """The bytes are no file of this form, or not the ones that were written; the text continues "PATH is ..."."""


def write(path: Path, kind: str, version: int, document: bytes, tensors: Mapping[str, Tensor]) -> None:
    """Writes atomically. Raises ArchiveError when the file cannot be written or the tensors cannot be stored."""
    if len(document) > DOCUMENT_BYTES:
        raise ArchiveError(f"{path} would need a document of {len(document):,} bytes; {DOCUMENT_BYTES:,} are allowed.")
    metadata = {"format": kind, "version": str(version), "document": document.decode(), **dict.fromkeys(_SUMS, _EMPTY)}
    with atomic_write(path) as temporary:
        tensor_files.save_file(_apart(tensors), temporary, metadata)
        _sign(temporary)


def read(path: Path) -> Content:
    """Reads a file into memory, its bytes held to their sums. Raises Damaged, and OSError where it cannot be read."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise Damaged("no regular file")
    raw = path.read_bytes()
    metadata = _metadata(raw)
    end = 8 + int.from_bytes(raw[:8], "little")
    for name, start, stop in (("sha256", 0, end), ("sha256.data", end, len(raw))):
        held = memoryview(raw)[start:stop]
        wanted = _sum(_blank(bytes(held), name) if name == "sha256" else held)
        if metadata.get(name) != wanted:
            raise Damaged("damaged: its bytes are not the ones that were written")
    try:
        tensors = tensor_files.load(raw)
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise Damaged("damaged: its tensors do not fit its size") from error
    version = metadata.get("version", "")
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise Damaged("damaged: its version is no number")
    return Content(metadata.get("format", ""), int(version), metadata.get("document", "").encode(), tensors)


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__", default_factory=dict)


def _metadata(raw: bytes) -> dict[str, str]:
    """The texts in the header. Damaged for what is no safetensors file."""
    size = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or not 2 <= size <= min(_HEADER_BYTES, len(raw) - 8):
        raise Damaged("not a file of netslim's, or it is damaged")
    try:
        metadata = msgspec.json.decode(raw[8 : 8 + size], type=_Header).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged("not a file of netslim's, or it is damaged") from error
    if not {"format", "version", "document", *_SUMS} <= metadata.keys():
        raise Damaged("not a file of netslim's (a file of safetensors from elsewhere?)")
    return metadata


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, dense and on the CPU, each with memory of its own. ArchiveError for what a file cannot say."""
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise ArchiveError(f"{name} is on the meta device and has no values to store; give the model its weights.")
        if tensor.dtype not in STORED or tensor.layout is not torch.strided:
            raise ArchiveError(f"{name} is {tensor.dtype} ({tensor.layout}), which cannot be stored; convert it first.")
    spans = sorted((_span(tensor), name) for name, tensor in tensors.items() if tensor.numel())
    for ((device, _, end), name), ((same, start, _), other) in itertools.pairwise(spans):
        if device == same and start < end:
            raise ArchiveError(
                f"{name} and {other} share memory without being one tensor, which a file cannot say: clone one of them."
            )
    return {name: _dense(tensor) for name, tensor in tensors.items()}


def _span(tensor: Tensor) -> tuple[str, int, int]:
    """The device, and the first byte of a tensor's memory and the one after the last."""
    steps = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return str(tensor.device), tensor.data_ptr(), tensor.data_ptr() + (steps + 1) * tensor.element_size()


def _dense(tensor: Tensor) -> Tensor:
    dense = tensor.detach().to("cpu").resolve_conj().resolve_neg().contiguous()
    shared = dense.untyped_storage().nbytes() != dense.numel() * dense.element_size()
    return dense.clone() if shared else dense


STORED = frozenset(
    getattr(torch, name)
    for name in "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64 complex64 "
    "float8_e4m3fn float8_e5m2".split()
)
"""The dtypes that safetensors writes."""


def _sign(path: Path) -> None:
    """Puts the sums in their places."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = bytearray(file.read(size))
        data = hashlib.file_digest(file, "sha256").hexdigest()
        _put(header, "sha256.data", data)
        _put(header, "sha256", _sum(size.to_bytes(8, "little") + header))
        file.seek(8)
        file.write(header)


def _sum(data: bytes | bytearray | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _place(header: bytes | bytearray, name: str) -> int:
    """Where a sum begins. Quotes inside texts are escaped, so that this can be found in one place only."""
    label = f'"{name}":"'.encode()
    found = header.find(label)
    if found < 0 or header.find(label, found + 1) >= 0:
        raise Damaged("damaged: its sums cannot be found")
    return found + len(label)


def _put(header: bytearray, name: str, value: str) -> None:
    place = _place(header, name)
    header[place : place + len(value)] = value.encode()


def _blank(header: bytes, name: str) -> bytearray:
    blank = bytearray(header)
    _put(blank, name, _EMPTY)
    return blank
