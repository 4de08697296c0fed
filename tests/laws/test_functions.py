"""What is known of functions by name is known of functions that there are: a name that nothing has is a dead entry."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator

import pytest
import torch

from netslim.ir import functions
from netslim.ir.functions import ARITHMETIC, ITEMS, VALUES, attribute_of, method_of, written
from netslim.ir.program import OPERATORS, Node, Ref, _functions, function, is_listed
from netslim.ops import FITS

TABLES = {name: table for name, table in vars(functions).items() if isinstance(table, (set, frozenset)) and table}
STRINGS = {name: table for name, table in TABLES.items() if all(isinstance(entry, str) for entry in table)} | {
    "FITS": set(FITS), "ZEROS": {*functions.ZEROS, functions.COPY}
}  # fmt: skip
OVERRIDABLE = {
    torch.overrides.resolve_name(fn) for fns in torch.overrides.get_overridable_functions().values() for fn in fns
}


def dead(table: str) -> Iterator[str]:
    """Entries of a table that no program can call; what gives values to Python no program need call."""
    for name in STRINGS[table]:
        if name.startswith(OPERATORS):
            function(name)
        elif not is_listed(name) and not (table == "VALUES" and name in OVERRIDABLE):
            yield name


def test_every_table_of_names_is_looked_at() -> None:
    assert STRINGS.keys() >= {"SUMS", "CATS", "SIZES", "FORMS", "VALUES", "ARITHMETIC", "FITS", "_VIEWS", "_FREE"}


@pytest.mark.parametrize("table", [name for name in STRINGS if name != "_FIRST"])
def test_a_name_that_something_is_known_of_is_on_the_allowlist(table: str) -> None:
    assert not sorted(dead(table))


@pytest.mark.parametrize("name", ["torch.split", "torch.meshgrid", "torch.Tensor.sizes"])
def test_a_name_that_no_program_can_hold_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRINGS, "SUMS", STRINGS["SUMS"] | {name})
    assert list(dead("SUMS")) == [name]


def test_what_is_called_for_its_result_alone_writes_nothing() -> None:
    for target in functions._FREE:
        assert not written(Node("value", "call", target, (Ref("given"), Ref("more"))))


def test_every_arithmetic_of_the_allowlist_is_known() -> None:
    listed = {f"{module.__name__}.{name}" for module in (operator, math) for name in vars(module)}
    unknown = {name for name in listed - ARITHMETIC if is_listed(name)}
    assert unknown == {"operator.getitem", "operator.setitem"}


@pytest.mark.parametrize("name", sorted(VALUES))
def test_giving_values_is_seen_by_the_function(name: str) -> None:
    module = torch.Tensor if name.startswith("torch.Tensor.") else torch
    assert functions.gives_values(getattr(module, name.rpartition(".")[2]))


def test_what_is_written_as_a_method_or_an_attribute_is_one() -> None:
    for name, fn in _functions().items():
        attribute, method = attribute_of(name), method_of(name)
        if attribute is not None:
            assert getattr(torch.Tensor, attribute).__get__ == fn
        elif method is not None:
            assert getattr(torch.Tensor, method) is fn or name == "operator.setitem"
        else:
            assert not name.startswith("torch.Tensor.")


def test_items_are_read_and_written_by_functions_of_the_allowlist() -> None:
    assert all(map(is_listed, [*ITEMS, *ITEMS.values()]))
    assert [method_of(name) for name in ("torch.add", "operator.getitem", "operator.setitem")] == [
        None,
        None,
        "__setitem__",
    ]
