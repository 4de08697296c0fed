"""A recipe's text as plain data: the part of YAML that is nothing else.

Texts, numbers, true, false, null, lists and mappings, by YAML 1.2's core schema: 1e-1 is a number, no is a text, 010 is
ten. Tags, aliases, merging and repeated keys are refused, so that what is read is what is written, once and as large.
"""

from __future__ import annotations

import re
from typing import ClassVar

import yaml

from gradaug.config.kinds import JSON, shown

DEEPEST = 10
"""Levels of lists and mappings in each other."""

_TAG = "tag:yaml.org,2002:"
_FORMS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]{1,30}|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
"""What a plain scalar is, tried in this order; anything else is a text."""


def plain(text: str) -> JSON:
    """The data in a YAML text. ValueError says what is wrong, and in which line."""
    try:
        return _Plain(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(f"{error.problem or error.context}{where}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


class _Plain(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[str, object]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refusal(f"the alias *{event.anchor}: write the value out", event)
        if event.tag is not None:
            raise _refusal(f"the tag {shown(event.tag)}: a recipe has texts, numbers, lists and mappings alone", event)
        if self._depth == DEEPEST:
            raise _refusal(f"more than {DEEPEST} levels of lists and mappings", event)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, JSON]:
        found: dict[str, JSON] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key that is no text", key)
            if key.value in found:
                raise _refusal(f"the key {shown(key.value)} a second time", key)
            found[key.value] = self.construct_object(value, deep=True)
        return found

    def construct_number(self, node: yaml.ScalarNode) -> int:
        return int(node.value, {"0x": 16, "0o": 8}.get(node.value[:2], 10))


for _name, _form in _FORMS.items():
    _Plain.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_form})$"), None)
_Plain.add_constructor(f"{_TAG}int", _Plain.construct_number)


def _refusal(problem: str, place: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)
