"""The commands that a text tells a person to type, and what is wrong with one: nothing is run, everything is parsed."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
FOLDERS = "benchmarks cli docs examples gradaug netslim notebooks tests".split()
PROGRAMS = "netslim gradaug python make jupyter torchrun pip".split()
UNFINISHED = "..."
"""Stands in a command for whatever else a person adds."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)#]+)\)")


class WrongError(Exception):
    """A command or a name that is not right."""


# ------------------------------------------------------------------------------------------ what a text says


def commands(text: str) -> Iterator[str]:
    """The commands of indented blocks, of fenced ones, of inline code.

    WrongError for a line of an indented block that is neither a command nor Python.
    """
    fences = _FENCE.findall(text)
    rest = _FENCE.sub("", text)
    for block in _INDENTED.findall(rest):
        for line in _joined(re.sub(r"^ {4}", "", block, flags=re.MULTILINE)):
            if _program(line):
                yield line
            elif not _is_python(line):
                raise WrongError(f"{line!r} is no command that is known here")
    for language, block in fences:
        if language != "python":
            yield from (line for line in _joined(block) if _program(line))
    for code in inline(text):
        if _program(code) and " " in code:
            yield f"{code} {UNFINISHED}"


def inline(text: str) -> list[str]:
    """Inline code, which may be broken across lines."""
    rest = _INDENTED.sub("", _FENCE.sub("", text))
    return [" ".join(code.split()) for code in _INLINE.findall(rest)]


def links(text: str) -> list[str]:
    """Targets of links to files of the repository."""
    return [link for link in _LINK.findall(_FENCE.sub("", text)) if "://" not in link]


def _joined(block: str) -> Iterator[str]:
    """The lines of a block, those that a backslash continues as one, without a prompt."""
    for line in block.replace("\\\n", " ").splitlines():
        if line.strip():
            yield line.strip().removeprefix("$ ").removeprefix(".venv/bin/")


def _program(line: str) -> str | None:
    words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
    return words[0] if words and words[0] in PROGRAMS else None


def _is_python(line: str) -> bool:
    try:
        ast.parse(line.rstrip(":") if not line.startswith(("for", "with", "class", "def")) else f"{line} pass")
    except SyntaxError:
        return False
    return True


# ------------------------------------------------------------------------------------------- what is wrong with it


def check(command: str) -> None:
    """WrongError for an option, a file, a recipe, a kind of data, a target or an extra that is not there."""
    words = [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_]+=", word)]
    unfinished = UNFINISHED in words
    program, *arguments = [re.sub(r"^[A-Z]$", "1", word) for word in words if word != UNFINISHED]
    for word in arguments:
        check_path(word)
    _CHECKS[program](arguments, unfinished)


def check_path(word: str) -> None:
    """WrongError for the path of a file that the repository does not have."""
    if word.split("/")[0] in FOLDERS and re.fullmatch(r"[\w/.-]+/[\w.-]+", word) and not (ROOT / word).exists():
        raise WrongError(f"there is no {word}")


def check_options(code: str) -> None:
    """WrongError for an option that none of our commands has."""
    known = {name for command in every_command() for p in command.params for name in (*p.opts, *p.secondary_opts)}
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code):
        if option not in known | {"--help"}:
            raise WrongError(f"no command has an option {option}")


def every_command() -> Iterator[click.Command]:
    from netslim_cli import main

    for group in (main.netslim, main.gradaug):
        yield group
        yield from (entry.load() for entry in group.entries.values())
    yield from (
        _benchmark(path) for path in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in path.read_text()
    )


def _group(name: str, arguments: list[str], unfinished: bool) -> None:
    from netslim_cli import main

    group = getattr(main, name)
    if arguments[:1] == ["--help"]:
        return
    if not arguments or arguments[0] not in group.entries:
        raise WrongError(f"{name} has no command {' '.join(arguments[:1])}")
    given = _parsed(group.entries[arguments[0]].load(), arguments[1:], unfinished)
    _check_meaning(arguments[0], given)


def _parsed(command: click.Command, arguments: list[str], unfinished: bool) -> click.Context | None:
    """The values of a command line; None where something is still missing, and may be."""
    try:
        return command.make_context(command.name, list(arguments))
    except click.MissingParameter as error:
        if not unfinished:
            raise WrongError(error.format_message()) from error
        return None
    except click.exceptions.Exit:
        return None
    except click.BadOptionUsage as error:
        if not (unfinished and arguments[-1] == error.option_name):  # the text goes on to say what its value is
            raise WrongError(error.format_message()) from error
        return None
    except click.ClickException as error:
        raise WrongError(error.format_message()) from error


def _check_meaning(name: str, context: click.Context | None) -> None:
    """Names that the parser takes for any text: recipes, data sets; and settings that do not fit each other."""
    from gradaug import recipes
    from gradaug.config.settings import TrainConfig
    from gradaug.data import SOURCES
    from netslim.errors import NetslimError
    from netslim_cli.options import explicit
    from netslim_cli.settings import checked

    if context is None:
        return
    given = context.params
    data, recipe = given.get("data"), given.get("recipe") if name == "train" else None
    if data and str(data).partition(":")[0] not in SOURCES:
        raise WrongError(f"there is no data {data}")
    try:
        if recipe and not recipe.endswith(".yaml"):
            recipes.load(recipe)
        if name == "recipes" and given["name"]:
            recipes.text(given["name"])
        if name == "train":
            settings = {field.name for field in dataclasses.fields(TrainConfig)}
            checked({key: value for key, value in explicit(context, given).items() if key in settings})
    except (NetslimError, click.UsageError) as error:
        raise WrongError(str(error)) from error


def _python(arguments: list[str], unfinished: bool) -> None:
    if arguments[:2] == ["-m", "gradaug"]:
        _group("gradaug", arguments[2:], unfinished)
        return
    if arguments[:2] == ["-m", "pytest"]:
        for argument in arguments[2:]:
            _check_test(argument)
        return
    if arguments[0] == "-m" or "/" not in arguments[0]:  # a file of the person's own
        return
    script = ROOT / arguments[0]
    if not script.is_file():
        raise WrongError(f"there is no {arguments[0]}")
    if script.parent.name == "benchmarks":
        _parsed(_benchmark(script), arguments[1:], unfinished)


def _check_test(argument: str) -> None:
    """WrongError for FILE::TEST where the file has no such test."""
    path, _, name = argument.partition("::")
    if not name:
        return
    check_path(path)
    if f"def {name}(" not in (ROOT / path).read_text():
        raise WrongError(f"{path} has no {name}")


def _benchmark(script: Path) -> click.Command:
    if str(script.parent) not in sys.path:
        sys.path.insert(0, str(script.parent))
    spec = importlib.util.spec_from_file_location(f"benchmark_{script.stem}", script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module.main


def _make(arguments: list[str], unfinished: bool) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in arguments:
        if target not in targets:
            raise WrongError(f"the Makefile has no target {target}")


def _jupyter(arguments: list[str], unfinished: bool) -> None:
    if arguments[0] == "lab" and not any("jupyterlab" in package for package in extras()["notebooks"]):
        raise WrongError("no extra brings jupyterlab")


def _torchrun(arguments: list[str], unfinished: bool) -> None:
    from torch.distributed.run import get_args_parser

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            parsed = get_args_parser().parse_args(arguments)
    except SystemExit:
        raise WrongError(said.getvalue()) from None
    _python(["-m" if parsed.module else "", parsed.training_script, *parsed.training_script_args], unfinished)


def _pip(arguments: list[str], unfinished: bool) -> None:
    for package in arguments:
        for extra in re.findall(r"\[([\w,]+)\]", package):
            for name in extra.split(","):
                if name not in extras():
                    raise WrongError(f"there is no extra {name}")


def extras() -> dict[str, list[str]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


_CHECKS = {
    "netslim": lambda arguments, unfinished: _group("netslim", arguments, unfinished),
    "gradaug": lambda arguments, unfinished: _group("gradaug", arguments, unfinished),
    "python": _python,
    "make": _make,
    "jupyter": _jupyter,
    "torchrun": _torchrun,
    "pip": _pip,
}
