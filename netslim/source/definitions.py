"""What a person's file defines: read from its syntax tree together with the imported module. Calls nothing in it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

from torch import nn
from torch.nn.modules.module import _forward_unimplemented

# A function with one of these names does something; it is not called to see whether it returns a model.
_VERBS = re.compile(r"_|main|train|test|eval|fit|run|load|demo|benchmark|export|convert")
_MODELLIKE = re.compile(r"model|net|backbone|classifier")


class Definitions:
    """Names of one file, by kind, in the order of the file."""

    def __init__(self, module: ModuleType, path: Path) -> None:
        self.module = module
        self.tree = ast.parse(path.read_bytes())

    def __getitem__(self, name: str) -> Callable[..., object]:
        """What makes a model, or is one."""
        return getattr(self.module, name)

    @property
    def names(self) -> list[str]:
        """Everything a person could pick."""
        return [*self.instances, *self.classes, *self.factories]

    @cached_property
    def instances(self) -> dict[str, nn.Module]:
        """Module-level models (with parameters: a loss is no model), each once."""
        imported = set(_imported(self.tree))
        found = {
            id(value): (name, value)
            for name, value in reversed(vars(self.module).items())
            if isinstance(value, nn.Module) and name not in imported and any(True for _ in value.parameters())
        }
        return dict(reversed(found.values()))

    @cached_property
    def classes(self) -> list[str]:
        """nn.Module subclasses with a forward."""
        return [
            node.name
            for node in self.tree.body
            if isinstance(node, ast.ClassDef) and _is_model_class(getattr(self.module, node.name, None))
        ]

    @cached_property
    def whole_classes(self) -> list[str]:
        """Public classes that no other model class of the file uses; all of them when each uses another."""
        used = {name for node in self._nodes(ast.ClassDef) for name in self._uses(node)}
        public = [name for name in self.classes if not name.startswith("_")]
        return [name for name in public if name not in used] or public

    @cached_property
    def factories(self) -> list[str]:
        """Public functions that return a model, judged by annotation and return statements."""
        return [name for name in self._functions if not _VERBS.match(name) and self._returns_model(name, set())]

    @cached_property
    def _functions(self) -> dict[str, ast.FunctionDef]:
        return {
            node.name: node
            for node in self.tree.body
            if isinstance(node, ast.FunctionDef) and inspect.isfunction(getattr(self.module, node.name, None))
        }

    def _nodes(self, kind: type[ast.ClassDef]) -> Iterator[ast.ClassDef]:
        return (node for node in self.tree.body if isinstance(node, kind) and node.name in self.classes)

    def _uses(self, node: ast.ClassDef) -> Iterator[str]:
        """Model classes of the file named in the body of a class, outside annotations and bases."""
        for part in node.body:
            for name in _loaded(part):
                if name in self.classes and name != node.name:
                    yield name

    def _returns_model(self, name: str, seen: set[str]) -> bool:
        node = self._functions[name]
        seen.add(name)
        if node.returns is not None and _is_module(self._evaluated(node.returns)):
            return True
        assigned = {
            target.id: statement.value
            for statement in ast.walk(node)
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        returned = [part.value for part in ast.walk(node) if isinstance(part, ast.Return)]
        values = [assigned.get(value.id, value) if isinstance(value, ast.Name) else value for value in returned]
        return any(isinstance(value, ast.Call) and self._makes_model(value.func, name, seen) for value in values)

    def _makes_model(self, called: ast.expr, function: str, seen: set[str]) -> bool:
        """Whether calling `called` makes a model: a model class, a factory, or something annotated as one."""
        if isinstance(called, ast.Name) and called.id in self._functions:
            return called.id not in seen and self._returns_model(called.id, seen)
        found = self._evaluated(called)
        if _is_module(found):
            return True
        if not callable(found) or inspect.isclass(found):
            return False
        annotation = getattr(found, "__annotations__", {}).get("return")
        return _is_module(annotation) or (annotation is None and bool(_MODELLIKE.search(function)))

    def _evaluated(self, node: ast.expr) -> object:
        """The value of a dotted name (or of a string that is one), or None."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return getattr(self.module, node.value, None)
        if isinstance(node, ast.Name):
            return getattr(self.module, node.id, None)
        if isinstance(node, ast.Attribute):
            return getattr(self._evaluated(node.value), node.attr, None)
        return None


def _is_module(value: object) -> TypeGuard[type[nn.Module]]:
    return inspect.isclass(value) and issubclass(value, nn.Module)


def _is_model_class(value: object) -> bool:
    return _is_module(value) and value.forward is not _forward_unimplemented


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names that the top level of a file imports, also under `if` and `try`."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def _loaded(node: ast.AST) -> Iterator[str]:
    """Names that a statement reads, without those in annotations."""
    if isinstance(node, ast.Name):
        yield node.id
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _loaded(child)
