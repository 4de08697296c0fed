"""What options take."""

from __future__ import annotations

from typing import Any

import click
import pytest

from netslim_cli.options import Assignment, ShapeType, WidthType


@pytest.mark.parametrize(("text", "shape"), [("3,224,224", (3, 224, 224)), ("8", (8,)), ("1, 32, 32", (1, 32, 32))])
def test_a_shape(text: str, shape: tuple[int, ...]) -> None:
    assert ShapeType().convert(text, None, None) == shape


@pytest.mark.parametrize("text", ["", "3x224", "3,,2", "0,2", "-1", "3,2.5"])
def test_no_shape(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write it as 3,224,224"):
        ShapeType().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=3", 3),
        ("a=[2, 2]", [2, 2]),
        ("a=None", None),
        ("a=gelu", "gelu"),
        ("a=b=c", "b=c"),
        ("a=", ""),
        ("a=True", True),
    ],
)
def test_an_argument_is_a_literal_or_else_a_string(text: str, value: Any) -> None:
    assert Assignment().convert(text, None, None) == ("a", value)


@pytest.mark.parametrize("text", ["a", "=3", "a-b=3"])
def test_no_argument(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not NAME=VALUE"):
        Assignment().convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "1.1", "-1", "half", "nan"])
def test_no_width(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a ratio in \(0, 1\]"):
        WidthType().convert(text, None, None)
