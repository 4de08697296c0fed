"""Image files beside a table: DIR/train.csv and DIR/val.csv, a row an image, a column a label or a number.

    file,cat,dog,indoors
    images/0001.jpg,1,0,1
    images/0002.jpg,0,0,

The first row has the names of the columns, the first column the files, from DIR on. A cell is 1 (there) or 0 (not
there) for `csv-labels`, and any number for `csv-values`; an empty one is not known.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from gradaug.data.image_folder import VALIDATION, Files
from gradaug.data.paths import opened, reason, root, shown
from gradaug.data.photo_sets import image_shape, photo_source
from gradaug.data.source import DataSource
from gradaug.errors import DataError

LARGEST = 2**31
"""Bytes of a table."""
SEPARATORS = ",;\t"


def csv_labels(path: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """Several labels an image, for ``--task multilabel``."""
    return _source("csv-labels", "multilabel", _there, path, shape, seed, labels, augment)


def csv_values(path: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """Numbers of an image, for ``--task regression``."""
    return _source("csv-values", "regression", _number, path, shape, seed, labels, augment)


def _source(
    name: str, task: str, read: Callable[[str], float], path: str, shape: tuple[int, ...], seed: int,
    labels: int | None, augment: str,
) -> DataSource:  # fmt: skip
    size = image_shape(name, path, shape, f"{name}:DIR with DIR/train.csv and DIR/val.csv")
    place = root(path)
    train = _table(place / "train.csv", name, read)
    found = next((file for file in VALIDATION if os.path.exists(place / f"{file}.csv")), VALIDATION[0])
    validation = _table(place / f"{found}.csv", name, read)
    if train.columns != validation.columns:
        raise DataError(
            f"{shown(place / 'train.csv')} has the columns {_some(train.columns)} and {found}.csv "
            f"{_some(validation.columns)}: both are to have the same, in one order"
        )
    parts = train.files, validation.files
    return photo_source(shown(place.name), task, len(train.columns), parts, size, seed, labels, augment, name)


class _Table(NamedTuple):
    columns: list[str]
    files: Files


def _table(path: Path, name: str, read: Callable[[str], float]) -> _Table:
    rows = _rows(path, name)
    header = rows[0][1]
    if len(header) < 2:
        raise DataError(
            f"{shown(path)} has one column, {shown(header[0])}: the first row is to name the file and each label, such "
            "as file,cat,dog"
        )
    paths, numbers = [], []
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{shown(path)}, line {line}, has {len(row)} cells where its first row has {len(header)}")
        file = path.parent / row[0]
        if not os.path.isfile(file):
            raise DataError(f"{shown(path)}, line {line}, names {shown(row[0])}, and there is no file {shown(file)}")
        paths.append(str(file))
        try:
            numbers.append([read(cell.strip()) for cell in row[1:]])
        except ValueError as error:
            raise DataError(f"{shown(path)}, line {line}: {error}") from error
    if not paths:
        raise DataError(f"{shown(path)} has no image: a row for each is to follow the first, which names the columns")
    return _Table(header[1:], Files(paths, torch.tensor(numbers, dtype=torch.float32)))


def _rows(path: Path, name: str) -> list[tuple[int, list[str]]]:
    """Rows with their line numbers, one at least; DataError where there is no table."""
    try:
        with opened(path) as file:
            text = file.read(LARGEST).decode("utf-8-sig")
        first = text.partition("\n")[0]
        separator = max(SEPARATORS, key=first.count)
        reader = csv.reader(text.splitlines(), delimiter=separator)
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"a table was looked for in {shown(path)} and is not there ({reason(error)}); give --data {name}:DIR with "
            "DIR/train.csv and DIR/val.csv: a row an image, its file first, then a column for each label"
        ) from error
    if not rows:
        raise DataError(f"{shown(path)} is empty: its first row is to name the file and each label, as file,cat,dog")
    return rows


def _number(cell: str) -> float:
    """ValueError unless it is a number, or empty: nan."""
    try:
        value = float(cell) if cell else math.nan
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise ValueError(f"{shown(cell)!r} is no number; leave a cell empty where it is not known")
    return value


def _there(cell: str) -> float:
    """As :func:`_number`, from 0 to 1."""
    value = _number(cell)
    if value < 0 or value > 1:
        raise ValueError(f"{shown(cell)!r} is no label, which is 0 or 1; leave a cell empty where it is not known")
    return value


def _some(names: list[str]) -> str:
    return ", ".join(map(shown, names[:5])) + (", ..." if len(names) > 5 else "")
