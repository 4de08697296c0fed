"""Tar shards as webdataset writes them: NAME.jpg and NAME.cls (or NAME.json) one after another, read at any place.

    webdataset:DIR                                           # DIR/*.tar, DIR/train/*.tar, DIR/val/*.tar
    webdataset:/data/imagenet-{train-{0000..0146},val-{00..06}}.tar

A shard is for training or validation as its name or its folder's says. An index of each, made once and kept beside it,
has the place of every image in the file and its label, so that the order of the images is that of any other data set:
every image once an epoch, a resume exact, and a process or worker reads the bytes of its own images alone. (The package
webdataset streams shards from their beginning through a shuffle buffer, which a resume in mid-epoch cannot repeat.)
"""

from __future__ import annotations

import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradaug.data.decode import SUFFIXES, decode_bytes
from gradaug.data.paths import opened, reason, root, shown
from gradaug.data.photo_sets import image_shape, photo_source, sorted_out
from gradaug.data.source import DataSource
from gradaug.errors import DataError
from netslim.errors import ArchiveError
from netslim.files import atomic_write

LAYOUT = "webdataset:DIR with DIR/train/*.tar and DIR/val/*.tar, or webdataset:PATTERN as name-{train,val}-{00..99}.tar"
NUMBERS = ("label", "cls", "class")
"""Entries of a json file, one of which is the class number."""
LARGEST_LABEL, MOST_SHARDS = 2**24, 2**20
"""Bytes of a file with a label; shards of a pattern."""
FORM = 1
"""Of the index."""
READERS = 8
"""Shards that are gone through at a time."""


def webdataset(path: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """The classes are as many as the largest number says."""
    size = image_shape("webdataset", path, shape, LAYOUT)
    parts = sorted_out(_shards(path), LAYOUT)
    with ThreadPoolExecutor(READERS) as pool:
        train, validation = (list(pool.map(indexed, parts[part])) for part in ("train", "val"))
    records = Shards(parts["train"], train), Shards(parts["val"], validation)
    classes = 1 + max(int(each.labels.max()) for each in records)
    source = photo_source("webdataset", "classification", classes, records, size, seed, labels, augment, "webdataset")
    lost = [index for index in (*train, *validation) if not index.kept]
    said = f"The index of {len(lost)} shards could not be kept beside them, and is made anew by every run."
    return replace(source, remarks=(said,)) if lost else source


@dataclass(frozen=True)
class Index:
    """Of every image of a shard where its bytes begin, how many there are, and its class number, int64 each."""

    places: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    kept: bool = True
    """Whether it lies beside the shard."""


class Shards:
    """The images of several shards, one after another."""

    def __init__(self, paths: Sequence[Path], found: Sequence[Index]) -> None:
        self.paths = list(paths)
        self.labels: Tensor = torch.from_numpy(np.concatenate([each.labels for each in found]))
        self.places, self.sizes = (
            np.concatenate([getattr(each, name) for each in found]) for name in ("places", "sizes")
        )
        self.ends = np.cumsum([len(each.labels) for each in found])

    def pixels(self, index: int, channels: int) -> Tensor:
        path = self.paths[int(np.searchsorted(self.ends, index, side="right"))]
        try:
            with opened(path) as file:
                file.seek(int(self.places[index]))
                content = file.read(int(self.sizes[index]))
        except OSError as error:
            raise DataError(f"{shown(path)} cannot be read ({reason(error)}); put it back, and resume") from error
        return decode_bytes(content, f"{shown(path)}, the image at byte {self.places[index]},", channels)


# ------------------------------------------------------------------------------------------ which shards


def _shards(path: str) -> list[Path]:
    """The shards of a folder or a pattern, by name; DataError where one is not there."""
    place = root(path)
    if os.path.isdir(place):
        found = [*sorted(place.glob("*.tar")), *sorted(place.glob("*/*.tar"))]
        if not found:
            raise DataError(f"tar shards were looked for in {shown(place)} and are not there; give --data {LAYOUT}")
        return found
    listed = list(itertools.islice(map(Path, expanded(str(place))), MOST_SHARDS))
    missing = [each for each in listed if not os.path.isfile(each)]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(listed)} shards of {shown(path)} are not there, such as {shown(missing[0])}; "
            f"give --data {LAYOUT}"
        )
    return listed


def expanded(pattern: str) -> Iterator[str]:
    """The names that a pattern with braces stands for, as a shell says them: {00..12} and {a,b}, also in each other."""
    start, end, inside = _first_braces(pattern)
    if not inside:
        yield pattern
        return
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inside[0]) if len(inside) == 1 else None
    if numbers:
        width = len(numbers[1]) if numbers[1].startswith("0") else 0
        words = (f"{n:0{width}}" for n in range(int(numbers[1]), int(numbers[2]) + 1))
    else:
        words = (word for each in inside for word in expanded(each))
    for word in words:
        yield from (pattern[:start] + word + rest for rest in expanded(pattern[end:]))


def _first_braces(pattern: str) -> tuple[int, int, list[str]]:
    """Where the first braces begin and end, and what stands between their own commas; nothing without braces."""
    start, depth, cuts = pattern.find("{"), 0, []
    for place in range(max(start, 0), len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[place], 0)
        if start < 0 or depth == 0:
            break
        if depth == 1 and pattern[place] in "{,":
            cuts.append(place + 1)
    else:
        return 0, 0, []
    if start < 0:
        return 0, 0, []
    ends = [*(cut - 1 for cut in cuts[1:]), place]
    return start, place + 1, [pattern[one:other] for one, other in zip(cuts, ends, strict=True)]


# ------------------------------------------------------------------------------------------ what is in them


def indexed(shard: Path) -> Index:
    """What is kept of a shard, if it is still the same; else it is gone through, and that is kept, where it can be."""
    beside = shard.with_name(f"{shard.name}.gradaug.npz")
    state = os.stat(shard)
    stamp = np.array([FORM, state.st_size, state.st_mtime_ns])
    known = _kept(beside, stamp)
    if known is not None:
        return known
    made = _made(shard)
    try:
        with atomic_write(beside) as temporary, open(temporary, "wb") as file:
            np.savez(file, stamp=stamp, places=made.places, sizes=made.sizes, labels=made.labels)
    except (ArchiveError, OSError):  # a folder that is not ours, or full: the run needs no copy
        return replace(made, kept=False)
    return made


def _kept(path: Path, stamp: np.ndarray) -> Index | None:
    try:
        with np.load(path, allow_pickle=False) as found:
            if not np.array_equal(found["stamp"], stamp):
                return None
            places, sizes, labels = (found[name].astype(np.int64) for name in ("places", "sizes", "labels"))
    except Exception:  # none, or one that is damaged
        return None
    sound = len(places) and places.shape == sizes.shape == labels.shape == (len(places),)
    inside = sound and places.min() >= 0 and sizes.min() >= 0 and (places + sizes).max() <= stamp[1]
    return Index(places, sizes, labels) if inside and labels.min() >= 0 else None


def _made(shard: Path) -> Index:
    try:
        with opened(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            rows = [_row(tar, shard, *sample) for sample in _samples(tar)]
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        raise DataError(
            f"{shown(shard)} cannot be read as a tar file ({reason(error)}); write it again, without compression"
        ) from error
    if not rows:
        raise DataError(f"{shown(shard)} has no images; write it again, or leave it out")
    places, sizes, labels = np.array(rows, dtype=np.int64).T
    return Index(places, sizes, labels)


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Neighbours of one name up to its first dot, by what follows it."""
    files = (member for member in tar if member.isfile() and not member.name.rpartition("/")[2].startswith(("__", ".")))
    for name, members in itertools.groupby(files, lambda member: _cut(member.name)[0]):
        yield name, {_cut(member.name)[1]: member for member in members}


def _cut(name: str) -> tuple[str, str]:
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return folder + slash + stem, ending.lower()


def _row(tar: tarfile.TarFile, shard: Path, name: str, files: dict[str, tarfile.TarInfo]) -> tuple[int, int, int]:
    images = [ending for ending in files if f".{ending}" in SUFFIXES]
    if len(images) != 1:
        raise DataError(f"{shown(shard)} has {len(images)} images of the name {shown(name)}, among {sorted(files)}")
    ending = next((ending for ending in ("cls", "json") if ending in files), None)
    label = None if ending is None else _class(_content(tar, files[ending]), ending)
    if label is None:
        raise DataError(
            f"{shown(shard)} says no class of {shown(name)}: beside the image belongs {shown(name)}.cls with a number "
            f"from 0, or {shown(name)}.json with one under {', '.join(NUMBERS)}"
        )
    image = files[images[0]]
    return image.offset_data, image.size, label


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None or member.size > LARGEST_LABEL else file.read()


def _class(content: bytes, ending: str) -> int | None:
    """The class number that a file says; None where it says none."""
    try:
        found = json.loads(content) if ending == "json" else int(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        found = next((found[name] for name in NUMBERS if name in found), None)
    return found if type(found) is int and 0 <= found < 2**31 else None
